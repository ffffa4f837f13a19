// Options that several commands share, and what they stand for: adapters with weights, float types, models opened
// with their adapters folded in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/paths.h"
#include "exec/executor.h"
#include "formats/formats.h"
#include "formats/json.h"
#include "tensor/artifact.h"
#include "transform/cast.h"
#include "transform/provenance.h"
#include "transform/quantize.h"

namespace ingot::cli {

struct AdapterArgument {
  std::string path;
  double weight = 1.0;
};

// Declares --adapter and --weight; read() gives them in the order of the command line, each weight with the
// adapter before it.
class AdapterArgs {
 public:
  void declare(Args& args);
  Result<std::vector<AdapterArgument>> read(const Args& args) const;

 private:
  std::vector<std::string> adapters_, weights_;
};

// f32, f16, bf16 (float32 ... too).
Result<DType> read_float_type(const std::string& name);

// Opens what lies there, and tells what its opener noticed.
Result<Artifact> open_told(Context& context, const Located& at, Faults* faults = nullptr);

// kBadInput of a file beside a model, of whichever kind, for a command that needs a model.
Status check_is_model(const Artifact& a);

// A model as given on the command line.
struct OpenedModel {
  std::string path;
  std::vector<std::string> adapters;  // paths
  std::string assumed;                // where the base was found, if it was not given
  Artifact base;      // as opened
  Artifact artifact;  // adapters folded in (lazily)
  transform::Operations operations;                   // that made it
  std::shared_ptr<transform::Provenance> provenance;  // with --provenance
  std::vector<std::string> texts;                     // files that the job reads besides
  bool is_gguf() const { return base.naming == "gguf"; }
};
// With kBaseOfAdapter `given` may be an adapter: its base is found by its own word, and it is the first of the adapters.
// With kState a state of training stays one; else the model in it is taken. `config_from`: a directory whose configuration and tokenizer what was opened gets.
enum class Given { kModel, kBaseOfAdapter, kState };
Result<OpenedModel> open_with_adapters(Context& context, const std::string& given, const std::vector<AdapterArgument>& adapters,
                                       Given what = Given::kModel, const std::string& config_from = "");
// The same of a model that is open already.
Result<OpenedModel> with_adapters(Context& context, Artifact base, const std::vector<AdapterArgument>& adapters, Given what = Given::kModel);

// Every path read by a job, for the check that an output is none of them.
std::vector<std::string> input_paths(const OpenedModel& model);

// The artifact as GGUF names it (itself when it is GGUF already). What was done is added to `done`; so it is by quantized().
Result<Artifact> as_gguf(Context& context, const Artifact& artifact, const std::string& pre_tokenizer, transform::Operations* done);
// The same for running it: its tokenizer may have no name in GGUF's world.
Result<Artifact> as_gguf_weights(Context& c, const Artifact& artifact);

// quantize_gguf; -v tells the types that came out.
Result<Artifact> quantized(Context& context, const Artifact& gguf, const std::string& type, const transform::QuantizeOptions& options,
                           transform::Operations* done);
// What was made of the model, as it is written: with its manifest, if --provenance asks for one.
Result<Artifact> with_manifest(const Context& context, const OpenedModel& from, Artifact made, transform::Operations done, OutputKind kind);
// The same of a GGUF model as outputs named `given`: one file, the splits that --max-shard-size asks for, or those of the source. None may be an input.
Result<std::vector<Output>> gguf_files(const Context& context, const OpenedModel& from, Artifact made, const transform::Operations& done,
                                       const std::string& given, bool keep_split = false);

// After a job that cast floats; all tensors go into the result object, the first into a warning.
void warn_nonfinite(Context& context, const transform::CastCounts& counts, OrderedJson* result);

}  // namespace ingot::cli
