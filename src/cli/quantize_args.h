// The options of llama-quantize that `quantize` and `ship` take, and those that come later.
#pragma once

#include <string>
#include <vector>

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
  bool keep_split() const { return keep_split_; }
  bool changes_model() const { return !prune_.empty() || !override_.empty(); }

 private:
  Result<std::shared_ptr<const transform::Importance>> importance(Context& context) const;

  bool pure_ = false, allow_requantize_ = false, leave_output_ = false, keep_split_ = false;
  std::string effort_ = "normal", output_type_, embedding_type_, buffer_;
  std::vector<std::string> tensor_types_, tensor_type_files_, imatrix_, include_, exclude_, prune_, override_;
};

}  // namespace ingot::cli
