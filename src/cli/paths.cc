// Paths as users give them.
#include "cli/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <climits>
#include <cstdlib>
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

namespace {

bool is_variable_name(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return c == '_' || std::isalnum(static_cast<unsigned char>(c)); });
}

// The '}' that closes the "${" at `begin`; one that belongs to a "${" inside is passed over.
size_t closing_brace(const std::string& path, size_t begin) {
  int depth = 0;
  for (size_t i = begin; i < path.size(); ++i) {
    if (path.compare(i, 2, "${") == 0) ++depth;
    if (path[i] == '}' && --depth == 0) return i;
  }
  return std::string::npos;
}

}  // namespace

Result<std::string> expand_variables(const std::string& path) {
  std::string out;
  for (size_t i = 0; i < path.size();) {
    if (path.compare(i, 2, "${") != 0) {
      out += path[i++];
      continue;
    }
    const size_t end = closing_brace(path, i);
    if (end == std::string::npos) return usage("'{}': ${{ without the closing }}", path);
    const std::string inner = path.substr(i + 2, end - i - 2);
    const size_t mark = inner.find(":-");
    const std::string name = inner.substr(0, mark);
    if (!is_variable_name(name))
      return usage("'{}': '{}' is no variable; write ${{NAME}}, or ${{NAME:-TEXT}} for a text where NAME is not set", path,
                   path.substr(i, end + 1 - i));
    const char* value = std::getenv(name.c_str());
    if (mark != std::string::npos && (!value || !*value)) {
      INGOT_ASSIGN(const std::string other, expand_variables(inner.substr(mark + 2)));
      out += other;
    } else if (!value) {
      return usage("'{}': the environment variable {} is not set", path, name);
    } else {
      out += value;
    }
    i = end + 1;
  }
  return out;
}

namespace {

// The shell replaces it only where it begins a word: not in '~/x', nor in --out=~/x.
bool is_tilde(std::string_view path) {
  std::error_code error;
  return (path == "~" || path.starts_with("~/")) && !fs::exists("~", error);
}

Result<std::string> expand(const std::string& given) {
  INGOT_ASSIGN(std::string path, expand_variables(given));
  if (path.empty())
    return usage("an empty path was given{}", given.empty() ? "" : fmt::format(" ('{}')", given));
  if (is_tilde(path)) return usage("'{}': the shell has not replaced ~ here; write ${{HOME}}{}", path, path.substr(1));
  return path;
}

// "; did you mean 'dir/model.gguf'?" of the name nearest beside it.
std::string meant(const std::string& path) {
  const auto above = locate(parent_path(path));
  const auto entries = above.ok() ? above->store->list(above->path) : Result<std::vector<Entry>>(std::vector<Entry>());
  std::vector<std::string> names;
  if (entries.ok())
    for (const Entry& e : *entries) names.push_back(e.name);
  const std::string near = nearest(file_name(path), names);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", join_path(parent_path(path), near));
}

}  // namespace

std::string extension(const std::string& path) {
  return lower(fs::path(path).extension().string().substr(fs::path(path).has_extension() ? 1 : 0));
}

namespace {

// That what is named lies there and may be read.
Status check_there(const std::string& path, const std::string& name) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (fs::exists(status)) {
    if (::access(path.c_str(), R_OK) != 0) return bad_input("'{}' may not be read: permission denied", path);
    return {};
  }
  if (error && status.type() != fs::file_type::not_found) return bad_input("'{}': {}", path, error.message());
  if (const fs::path to = fs::read_symlink(path, error); !error) return bad_input("'{}' is a link to '{}', which is not there", path, to.string());
  const std::string parent = parent_path(path);
  const auto above = fs::status(parent, error);
  if (error && above.type() != fs::file_type::not_found) return bad_input("'{}': '{}': {}", path, parent, error.message());
  if (!fs::exists(above)) return bad_input("'{}': there is no directory '{}'", path, parent);
  if (!fs::is_directory(above)) return bad_input("'{}': '{}' is not a directory", path, parent);
  const std::string near = meant(path);
  const bool shadowed = near.empty() && path == name && parse_hub_id(path) && path.find('/') != std::string::npos;
  return bad_input("'{}': no such file or directory{}", path,
                   shadowed ? fmt::format("; the directory '{}' here makes it a path: for the model of that name on the Hub write hf://{}", parent, path)
                            : near);
}

}  // namespace

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
  INGOT_ASSIGN(const std::string name, expand(given));
  auto located = locate_input(name);
  // Of one word a slip is likelier than a model of the Hub.
  if (!located.ok() && name.find('/') == std::string::npos)
    if (const std::string near = meant(name); !near.empty()) return bad_input("'{}': no such file or directory{}", name, near);
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

Result<std::string> read_stream(int fd, const std::string& name, size_t most, const CancelToken& cancel) {
  std::string text;
  char buffer[65536];
  for (;;) {
    // A wait that a signal just missed must not last for ever.
    pollfd input{fd, POLLIN, 0};
    while (!cancel.cancelled() && ::poll(&input, 1, 100) <= 0) {
    }
    if (cancel.cancelled()) return Error{ErrorKind::kInterrupted, fmt::format("interrupted while reading {}; nothing was done", name)};
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return text;
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return failed("reading {}: {}", name, std::strerror(errno));
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > most) return bad_input("{} holds more than {} of text", name, format_bytes(most));
  }
}

}  // namespace

Result<Located> text_path(const std::string& given) {
  INGOT_ASSIGN(const std::string name, expand(given));
  INGOT_ASSIGN(Located at, locate(name));
  INGOT_TRY(check_there(at.path, ""));
  return at;
}

Result<std::string> read_text_at(const Located& at, size_t most, const CancelToken& cancel) {
  std::error_code error;
  const auto status = fs::status(at.path, error);
  if (!fs::is_fifo(status) && !fs::is_character_file(status)) return read_text(*at.store, at.path, most);
  const std::string name = fmt::format("'{}'", at.path);
  // What is open already is not opened again: of a pipe whose writer has been and gone one would wait for another.
  int64_t open = -1;
  if (at.path == "/dev/stdin") open = STDIN_FILENO;
  if (at.path.starts_with("/dev/fd/")) std::from_chars(at.path.data() + 8, at.path.data() + at.path.size(), open);
  if (open >= 0 && open <= INT_MAX) return read_stream(static_cast<int>(open), name, most, cancel);
  // Not for a writer either where nobody could interrupt it.
  const int fd = ::open(at.path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return failed("opening '{}': {}", at.path, std::strerror(errno));
  auto text = read_stream(fd, name, most, cancel);
  ::close(fd);
  return text;
}

Result<std::string> read_text_input(const std::string& given, const CancelToken& cancel) {
  constexpr size_t kMaxText = 1u << 30;
  if (given == "-") return read_stream(STDIN_FILENO, "standard input", kMaxText, cancel);
  INGOT_ASSIGN(const Located at, text_path(given));
  return read_text_at(at, kMaxText, cancel);
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
  INGOT_ASSIGN(const std::string name, expand(given));
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
