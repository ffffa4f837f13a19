// Paths as users give them: ${VAR} expanded, names that are no path told apart, {type} filled in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "formats/output_formats.h"
#include "storage/store.h"

namespace ingot::cli {

// ${VAR} replaced by the environment's value; an unset one is an error that names it. ${VAR:-TEXT} is TEXT (in which
// variables are replaced too) where VAR is unset or empty. "$VAR" and "$" stay.
Result<std::string> expand_variables(const std::string& path);

// A model: expanded, located (storage/hub.h: a path, a URL or a model's name on the Hub; model_folders.h: the only one in a directory of GGUF
// files) and there. kBadInput for what is not, each with its own text.
Result<Located> input_path(const std::string& given);
// Whether something lies where input_path() would look; whatever is wrong with it.
bool is_input(const std::string& given);

// A file of text, or a pipe or a device that gives one: no model's name.
Result<Located> text_path(const std::string& given);
// Its text, of at most `most` bytes. A raised token ends the wait for a pipe.
Result<std::string> read_text_at(const Located& at, size_t most, const CancelToken& cancel);
// Both, or standard input for "-"; at most 1 GiB.
Result<std::string> read_text_input(const std::string& given, const CancelToken& cancel);

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
