// The options of llama-quantize that `quantize` and `ship` take, and those that come later.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "transform/quantize.h"

namespace ingot::cli {

class QuantizeArgs {
 public:
  void declare(Args& args);
  // Types are checked here; patterns when they are used.
  Result<transform::QuantizeOptions> read(Context& context) const;

 private:
  Result<std::shared_ptr<const transform::Importance>> importance(Context& context) const;

  bool pure_ = false, allow_requantize_ = false, leave_output_ = false;
  std::string output_type_, embedding_type_, buffer_;
  std::vector<std::string> tensor_types_, tensor_type_files_, imatrix_, include_, exclude_;
};

}  // namespace ingot::cli
