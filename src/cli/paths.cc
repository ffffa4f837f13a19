// Paths as users give them.
#include "cli/paths.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include "checkpoint/directory.h"
#include "cli/model_folders.h"
#include "cli/text.h"
#include "storage/hub.h"

namespace ingot::cli {

namespace fs = std::filesystem;

std::string extension(const std::string& path) {
  return lower(fs::path(path).extension().string().substr(fs::path(path).has_extension() ? 1 : 0));
}

namespace {

// RUN/latest of a directory of checkpoints, where a file of that name names one, or none is left: the newest whole one; of other software's, the directory, which
// is opened as its text says. Nothing for any other name.
Result<std::optional<Located>> latest_of(const std::string& name) {
  if (file_name(name) != "latest" || name.find("://") != std::string::npos) return std::optional<Located>();
  INGOT_ASSIGN(const Located at, locate(name));
  INGOT_ASSIGN(const auto there, at.store->stat(at.path));
  if (there && there->kind != Stat::Kind::kFile && there->kind != Stat::Kind::kDangling) return std::optional<Located>();
  const std::string directory = parent_path(at.path);
  const auto found = checkpoint::scan(*at.store, directory);
  if (!found.ok() || found->empty()) return std::optional<Located>();
  for (const auto& f : *found)
    if (f.state == checkpoint::State::kWhole) return std::optional(Located{at.store, f.path});
  const bool ours = std::any_of(found->begin(), found->end(), [](const auto& f) { return f.state != checkpoint::State::kUnverified; });
  if (ours) return bad_input("'{}': none of the {} checkpoints in '{}' is whole; 'ingot checkpoint rescue {}' tells what can be taken", name, found->size(), directory, shell_word(directory));
  return there ? std::optional(Located{at.store, directory}) : std::nullopt;
}

// Besides what locate_model() knows: "org/model:Q4_K_M", as llama.cpp's tools take it.
Result<Located> locate_input(const std::string& name) {
  INGOT_ASSIGN(const auto latest, latest_of(name));
  if (latest) return *latest;
  const size_t colon = name.rfind(':'), begin = colon + 1;
  std::error_code error;
  if (colon == std::string::npos || begin == name.size() || name.find('/') > colon || name.find('/', colon) != name.npos || !parse_hub_id(name.substr(0, colon)) ||
      fs::exists(name, error))
    return locate_model(name);
  INGOT_ASSIGN(const Located at, locate_model(name.substr(0, colon)));
  INGOT_TRY(check_there(at.path, name.substr(0, colon)));
  return gguf_of_type(at, name.substr(begin));
}

}  // namespace

Result<Located> input_path(const std::string& given) {
  INGOT_ASSIGN(const std::string name, expand_path(given));
  auto located = locate_input(name);
  // Of one word a slip is likelier than a model of the Hub.
  if (!located.ok() && name.find('/') == std::string::npos)
    if (const std::string near = meant_path(name); !near.empty()) return bad_input("'{}': no such file or directory{}", name, near);
  INGOT_ASSIGN(Located at, std::move(located));
  INGOT_TRY(check_there(at.path, name));
  return model_in_folder(at);
}

bool is_input(const std::string& given) {
  const auto path = expand_variables(given);
  const auto at = path.ok() ? locate_input(*path) : Result<Located>(path.error());
  return at.ok() && is_there(*at->store, at->path);
}

namespace {

// As people write it.
std::string format_text(const OutputFormat& format) { return format.name == "gguf" ? "GGUF" : std::string(format.name); }

// A name that says another thing than what is written would mislead every reader of the file.
Status check_kind(const std::string& path, OutputKind kind) {
  const std::string e = extension(path);
  const OutputFormat* named = output_format_of_extension(e);
  if (kind.directory) {
    if (named)
      return usage("'{}' is the name of a file, but a {} would be written; give a name without .{}", path,
                   kind.format->name == "safetensors" ? "Hugging Face directory" : format_text(*kind.format) + " directory", e);
    return {};
  }
  const std::string what = format_text(*kind.format);
  if (path.back() == '/') return usage("'{}' is the name of a directory, but a {} file would be written; give the name of a file in it", path, what);
  if (e == "onnx" || (named && named != kind.format))
    return usage("'{}': a {} file would be written, not .{}; give a name that says so", path, what, e);
  return {};
}

}  // namespace

Status check_parents(const std::string& path) {
  std::error_code error;
  std::string there = parent_path(path);
  const auto missing = [&](const std::string& p) {
    return fs::symlink_status(p, error).type() == fs::file_type::not_found || error == std::errc::filename_too_long;
  };
  while (missing(there) && parent_path(there) != there) there = parent_path(there);
  const auto status = fs::status(there, error);
  if (!fs::status_known(status)) return failed("cannot write '{}': '{}' cannot be looked at: {}", path, there, error.message());
  if (!fs::exists(status) && fs::is_symlink(there, error))
    return failed("cannot write '{}': '{}' is a link to nothing", path, there);
  if (!fs::is_directory(status)) return failed("cannot write '{}': '{}' is not a directory", path, there);
  if (::access(there.c_str(), W_OK | X_OK) == 0) {
    const long most = ::pathconf(there.c_str(), _PC_NAME_MAX);
    for (const std::string& name : split(path, '/'))
      if (most > 0 && name.size() > static_cast<size_t>(most))
        return usage("cannot write '{}': the name has {} bytes, but the file system takes {} at most; give a shorter one",
                     shorten_middle(path, 80), name.size(), most);
    return {};
  }
  if (errno == EACCES) return failed("cannot write '{}': no permission to write in the directory '{}'", path, there);
  return failed("cannot write '{}': in the directory '{}': {}", path, there, std::strerror(errno));
}

OutputKind file_of(std::string_view format) { return {output_format(format), false}; }
OutputKind directory_of(std::string_view format) { return {output_format(format), true}; }

Result<Located> output_path(const std::string& given, OutputKind kind, const std::vector<std::string>& inputs) {
  INGOT_ASSIGN(const std::string name, expand_path(given));
  if (name == "-") return usage("a model cannot be written to standard output; give the name of a file (one called - is ./-)");
  INGOT_ASSIGN(Located at, locate(name, "write to a path here and copy it there"));
  std::string& path = at.path;
  INGOT_TRY(check_kind(path, kind));
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (const std::string last = file_name(path); last.empty() || last == "." || last == "..")
    return usage("'{}' cannot be written as a whole: a finished output takes its place under its own name; give that name", path);
  std::error_code error;
  const auto same = [&](const fs::path& a) { return fs::equivalent(a, path, error) && !error; };
  for (const std::string& input : inputs) {
    bool hit = same(input);
    if (!hit && fs::is_directory(input, error)) {
      // Weights, config and tokenizer; not what an earlier run left beside them ("base/model.gguf").
      INGOT_ASSIGN(const Located from, locate(input));
      INGOT_ASSIGN(const auto entries, from.store->list(from.path));
      for (const Entry& e : entries) hit = hit || (extension(e.name) != "gguf" && !e.directory && same(join_path(input, e.name)));
    }
    if (hit) return usage("the output '{}' is the input itself (or a file of it); give another --out", path);
  }
  INGOT_TRY(check_parents(path));
  return at;
}

Result<std::vector<std::string>> output_paths(const std::string& pattern,
                                              const std::vector<std::string>& types) {
  const bool has_type = lower(pattern).find("type}") != std::string::npos;
  if (types.size() > 1 && !has_type)
    return usage(
        "--out '{}' names one file for {} types; write {{type}} where each name differs, like "
        "'model-{{type}}.gguf'",
        pattern, types.size());
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const std::string& type : types) {
    std::string path = pattern;
    // convert_hf_to_gguf.py has four names for it.
    for (const auto& [name, text] : {std::pair("{type}", type), {"{ftype}", lower(type)}, {"{outtype}", lower(type)}, {"{FTYPE}", type}, {"{OUTTYPE}", type}})
      for (size_t at = 0; (at = path.find(name, at)) != std::string::npos; at += text.size()) path.replace(at, std::strlen(name), text);
    if (!seen.insert(path).second) return usage("two outputs would have the name '{}'", path);
    out.push_back(path);
  }
  return out;
}

}  // namespace ingot::cli
