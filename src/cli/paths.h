// Paths as users give them (storage/given_path.h): names that are no path told apart, {type} filled in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/output_formats.h"
#include "storage/given_path.h"
#include "storage/store.h"
#include "storage/text_input.h"

namespace ingot::cli {

// A model: expanded, located (storage/hub.h: a path, a URL or a model's name on the Hub; model_folders.h: the only one in a directory of GGUF
// files) and there. kBadInput for what is not, each with its own text.
Result<Located> input_path(const std::string& given);
// Whether something lies where input_path() would look; whatever is wrong with it.
bool is_input(const std::string& given);

// What will be written: one file of a format, or a directory of it.
struct OutputKind {
  const OutputFormat* format;
  bool directory;
};
OutputKind file_of(std::string_view format);
OutputKind directory_of(std::string_view format);

// An output: expanded, located, named as what it will be, in a directory that is there and writable or can be made, and not one of the inputs (nor
// the file that an input directory is read from). Nothing is made yet.
Result<Located> output_path(const std::string& given, OutputKind kind, const std::vector<std::string>& inputs);

// That the nearest directory above what will be written takes new files.
Status check_parents(const std::string& path);

// `pattern` for each type, {type} replaced. Several types without {type}, or the same path twice: kUsage.
Result<std::vector<std::string>> output_paths(const std::string& pattern,
                                              const std::vector<std::string>& types);

// Lower-case extension of the last component without the dot: "gguf".
std::string extension(const std::string& path);

}  // namespace ingot::cli
