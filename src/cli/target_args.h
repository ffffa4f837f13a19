// What is written, and of which types: --out and --type, or the words after the input, as llama-quantize and mergekit have them; and what is
// taken where one is not given.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/model_args.h"

namespace ingot::cli {

class TargetArgs {
 public:
  // `type_help` stands behind --type, `out_help` behind --out.
  void declare(Args& args, const char* type_names, const char* type_help, const char* out_help);
  // Sorts the words: one that names a type is the type, another one the output, a number after a type the threads.
  Status read(Context& context);
  // Where no type was given: this one. Told with the name, by paths().
  void assume_type(const char* type);
  // A file for each type: --out, or where none was given "MODEL-TYPE.gguf" here, of the model's and its adapters' names.
  Result<std::vector<std::string>> paths(Context& context, const OpenedModel& model, const std::vector<std::string>& types);

  std::string types, out;

 private:
  std::vector<std::string> words_;
  std::string assumed_;
};

// "base-adapter", or --name; of a GGUF file its name without splits, type and extension.
std::string output_name(const Context& context, const OpenedModel& model);

}  // namespace ingot::cli
