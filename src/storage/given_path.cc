// A path as a user gives it.
#include "storage/given_path.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/nearest.h"
#include "storage/hub.h"

namespace ingot {

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

}  // namespace

Result<std::string> expand_path(const std::string& given) {
  INGOT_ASSIGN(std::string path, expand_variables(given));
  if (path.empty())
    return usage("an empty path was given{}", given.empty() ? "" : fmt::format(" ('{}')", given));
  if (is_tilde(path)) return usage("'{}': the shell has not replaced ~ here; write ${{HOME}}{}", path, path.substr(1));
  return path;
}

std::string meant_path(const std::string& path) {
  const auto above = locate(parent_path(path));
  const auto entries = above.ok() ? above->store->list(above->path) : Result<std::vector<Entry>>(std::vector<Entry>());
  std::vector<std::string> names;
  if (entries.ok())
    for (const Entry& e : *entries) names.push_back(e.name);
  const std::string near = nearest(file_name(path), names);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", join_path(parent_path(path), near));
}

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
  const std::string near = meant_path(path);
  const bool shadowed = near.empty() && path == name && parse_hub_id(path) && path.find('/') != std::string::npos;
  return bad_input("'{}': no such file or directory{}", path,
                   shadowed ? fmt::format("; the directory '{}' here makes it a path: for the model of that name on the Hub write hf://{}", parent, path)
                            : near);
}

}  // namespace ingot
