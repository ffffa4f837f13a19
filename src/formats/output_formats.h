// The formats that can be written, by --to or by the name of an output.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exec/executor.h"

namespace ingot {

struct OutputFormat {
  std::string_view name;        // as in --to
  std::string_view extensions;  // of one file, separated by spaces
  std::string_view about;       // for people: "torch.load's zip files"
  // One of them may be null: the format has directories, or files, only.
  Output (*file)(Artifact, Store&, const std::string& path);
  Output (*directory)(Artifact, Store&, const std::string& path, uint64_t max_shard);

  // Whether a directory of it is a model's, which needs its config.json; else it holds any state of training, as the files do.
  bool model_directory = true;
  std::string_view alias = {};  // another name that --to has for it

  bool has_extension(std::string_view extension) const;
};

const std::vector<const OutputFormat*>& output_formats();
// Null where there is none.
const OutputFormat* output_format(std::string_view name);
const OutputFormat* output_format_of_extension(std::string_view extension);

// What to do with a tensor whose type the format has not: choose one of `floats`, where it can be cast, or write a format that has it.
std::string another_type(DType type, std::string_view floats);

}  // namespace ingot
