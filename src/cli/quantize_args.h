// The options of llama-quantize that `quantize` and `ship` take, and those that come later.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/calibration.h"
#include "cli/command.h"
#include "cli/model_args.h"
#include "transform/quantize.h"

namespace ingot::cli {

class QuantizeArgs {
 public:
  void declare(Args& args);
  // Types are checked here; patterns when they are used.
  Result<transform::QuantizeOptions> read(Context& context) const;
  // The model as it is to be quantized: without layers, with other metadata. The options follow: the importance matrix is that of the layers which stay, and what quantizing
  // itself would set stays as it was given.
  Result<Artifact> prepared(Context& context, Artifact gguf, transform::QuantizeOptions* options, transform::Operations* done) const;
  // With --calibrate: the importance matrix of what prepared() gave, into the options; else none. `kept`: where --keep imatrix= wants it. Before quantized(): types are chosen by whether there is one.
  Result<std::unique_ptr<Calibration>> calibration(Context& context, const OpenedModel& model, const Artifact& gguf, transform::QuantizeOptions* options, const std::string& kept = "") const;
  bool calibrates() const { return !calibrate_.texts.empty(); }
  const std::vector<std::string>& texts() const { return calibrate_.texts; }
  int64_t window() const { return calibrate_.length; }  // --ctx, --chunks
  int64_t windows() const { return std::max<int64_t>(0, calibrate_.chunks); }
  bool keep_split() const { return keep_split_; }
  bool changes_model() const { return !prune_.empty() || !override_.empty(); }

 private:
  Result<std::shared_ptr<const transform::Importance>> importance(Context& context) const;
  Status choose_weights(transform::Importance* matrix) const;

  bool pure_ = false, allow_requantize_ = false, leave_output_ = false, keep_split_ = false;
  std::string effort_ = "normal", output_type_, embedding_type_, buffer_;
  ImatrixArgs calibrate_;
  std::vector<std::string> tensor_types_, tensor_type_files_, imatrix_, include_, exclude_, prune_, override_;
};

}  // namespace ingot::cli
