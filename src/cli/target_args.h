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
  // Sorts the words: one that names a type is the type, another one the output, a number after a type the threads. `model` is the word
  // before them. `files`: the output is a file, so that a lone word without an extension is a type that there is not.
  Status read(Context& context, const std::string& model, bool files = true);
  // Where no type was given: this one. Told with the name, by paths().
  void assume_type(const char* type);
  bool out_is_directory() const;  // that is there
  // A file for each type: --out, or "MODEL-TYPE.gguf" in the directory that it is, or here where none was given, of the model's and its
  // adapters' names. Told, if they can be written.
  Result<std::vector<std::string>> paths(Context& context, const OpenedModel& model, const std::vector<std::string>& types);

  std::string types, out;

 private:
  std::vector<std::string> words_;
  std::string assumed_;
};

// "base-adapter", or --name; of a GGUF file its name without splits, type and extension.
std::string output_name(const Context& context, const OpenedModel& model);

}  // namespace ingot::cli
