// --calibrate of 'quantize' and 'ship': an importance matrix of the model that is quantized, computed before the job from the same lazy weights, which are read once more for it.
// Nothing is written between.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibrate/importance_file.h"
#include "cli/imatrix_run.h"
#include "cli/job.h"
#include "transform/provenance.h"
#include "transform/quantize.h"

namespace ingot::cli {

class Calibration {
 public:
  // What would be refused is refused here. options->imatrix has the tensors; their values come with run(). args.out: the file of keep(), or empty.
  static Result<std::unique_ptr<Calibration>> prepare(Context& context, const ImatrixArgs& args, const OpenedModel& model, const Artifact& gguf, transform::QuantizeOptions* options);
  // The matrix as an output of the same job, number `index` of them.
  Result<Output> keep(const Context& context, size_t index);
  // Runs the windows, unless the outputs are there already as this job makes them, or --dry-run is given, whose plan is told of them. `provenance` may be null.
  Status run(Context& context, std::vector<Output>* outputs, const transform::Provenance* provenance, PlanDetails* details);
  // The job is done: nothing is kept any more.
  void finish(OrderedJson* j, std::string* text);

 private:
  ImatrixArgs args_;
  ImatrixSources sources_;
  std::map<std::string, std::shared_ptr<std::vector<float>>> weights_;
  struct Kept {
    calibrate::ImportanceFile file;
    size_t index;
  };
  std::optional<Kept> file_;
  std::unique_ptr<ProgressFile> kept_;
  ImatrixRun ran_;
  OrderedJson told_ = OrderedJson::object();
};

// Where no output has blocks.
void warn_useless_calibration(Context& context, bool asked, const std::vector<Output>& outputs);

}  // namespace ingot::cli
