// Directories that look like models and are none.
#include "cli/model_folders.h"

#include <algorithm>
#include <vector>

#include "cli/text.h"
#include "storage/hub.h"

namespace ingot::cli {

namespace {

Result<bool> is_directory(Store& store, const std::string& path) {
  INGOT_ASSIGN(const auto there, store.stat(path));
  return there && there->directory();
}

// Its name, "org/model"; empty where it is none.
Result<std::string> repository_at(Store& store, const std::string& path) {
  const std::string name = hub_repository(file_name(path));
  INGOT_ASSIGN(const bool there, is_directory(store, join_path(path, "snapshots")));
  return there ? name : "";
}

// The snapshot that is meant without a revision, or the only one; empty where neither says which.
std::string snapshot_of(Store& store, const std::string& folder) {
  if (const auto main = find_snapshot(store, folder, {hub_repository(file_name(folder)), ""}); main.ok()) return *main;
  const std::string all = join_path(folder, "snapshots");
  const auto names = directories_in(store, all);
  return names.size() == 1 ? join_path(all, names[0]) : "";
}

Status repository(Store& store, const std::string& path, const std::string& root, const std::string& name) {
  const std::string snapshot = snapshot_of(store, root);
  if (!snapshot.empty())
    return bad_input("'{}' is {} in the Hugging Face cache, whose files are in a snapshot: give '{}'", path, name, snapshot);
  auto names = directories_in(store, join_path(root, "snapshots"));
  if (names.empty())
    return bad_input("'{}' is {} in the Hugging Face cache, but holds no snapshot: the download did not finish; repeat it (hf download {})",
                     path, name, name);
  const size_t count = names.size();
  names.resize(std::min<size_t>(count, 4));
  return bad_input("'{}' is {} in the Hugging Face cache with {} snapshots, and refs/main names none of them; give one: {}{}", path, name,
                   count, join_path(root, "snapshots/" + join(names, ", ")), count > names.size() ? ", .." : "");
}

// "m.gguf" is the first file of its model, "m-00002-of-00003.gguf" is not.
bool begins_model(const std::string& name) {
  const size_t of = name.rfind("-of-");
  return of == std::string::npos || of < 6 || name.size() != of + 14 || name.compare(of - 6, 6, "-00001") == 0;
}

// Beside a model the part of it that sees lies on its own.
bool is_gguf_model(const std::string& name) {
  return name.ends_with(".gguf") && name[0] != '.' && !name.starts_with("mmproj") && begins_model(name);
}

// A folder that somebody collects GGUF files in, or a repository of them.
Result<Located> gguf_in(const Located& given) {
  std::vector<std::string> names;
  const auto entries = given.store->list(given.path);
  if (!entries.ok()) return given;  // opening it tells why
  for (const Entry& e : *entries) {
    const std::string& name = e.name;
    if (name == "adapter_config.json") return given;
    for (const char* end : {".safetensors", ".bin", ".index.json"})
      if (name.ends_with(end)) return given;
    if (is_gguf_model(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  if (names.empty()) return given;
  const std::string first = join_path(given.path, names[0]);
  if (names.size() == 1) return Located{given.store, first};
  const size_t count = names.size();
  names.resize(std::min<size_t>(count, 20));
  return bad_input("'{}' is a directory with {} models in GGUF: {}{}; give one, like '{}'", given.path, count, join(names, ", "),
                   count > names.size() ? ", .." : "", first);
}

}  // namespace

Result<Located> gguf_of_type(const Located& directory, const std::string& type) {
  INGOT_ASSIGN(const auto entries, directory.store->list(directory.path));
  std::vector<std::string> all, of_type;
  for (const Entry& e : entries) {
    if (!is_gguf_model(e.name)) continue;
    all.push_back(e.name);
    const std::string name = lower(e.name), word = lower(type);
    if (name.find(word + ".") != name.npos || name.find(word + "-") != name.npos) of_type.push_back(e.name);
  }
  if (of_type.size() == 1) return Located{directory.store, join_path(directory.path, of_type[0])};
  const bool none = of_type.empty();
  std::vector<std::string>& names = none ? all : of_type;
  std::sort(names.begin(), names.end());
  const size_t count = names.size();
  names.resize(std::min<size_t>(count, 20));
  return bad_input("'{}' holds {} of the type {}{}{}{}", directory.path, none ? "no GGUF file" : "several GGUF files", type,
                   names.empty() ? "" : none ? ", but " : ": ", join(names, ", "), count > names.size() ? ", .." : "");
}

Result<Located> model_in_folder(const Located& given) {
  Store& store = *given.store;
  std::string path = given.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  INGOT_ASSIGN(const bool directory, is_directory(store, path));
  if (!directory) return given;
  INGOT_ASSIGN(const auto config, store.stat(join_path(path, "config.json")));
  if (config) return gguf_in(given);
  const std::string folder = file_name(path) == "snapshots" ? parent_path(path) : path;
  INGOT_ASSIGN(const std::string name, repository_at(store, folder));
  if (!name.empty()) return repository(store, given.path, folder, name).take_error();
  const std::string hub = directories_in(store, path, "models--").empty() ? join_path(path, "hub") : path;
  const auto models = directories_in(store, hub, "models--");
  if (models.empty()) return gguf_in(given);
  std::string text;
  for (size_t i = 0; i < models.size() && i < 3; ++i) {
    const std::string root = join_path(hub, models[i]);
    const std::string snapshot = snapshot_of(store, root);
    text += fmt::format("{}'{}'", i ? ", " : "", snapshot.empty() ? join_path(root, "snapshots/..") : snapshot);
  }
  return bad_input("'{}' is the Hugging Face cache itself, with {} models; give the snapshot of one: {}{}", given.path, models.size(), text,
                   models.size() > 3 ? ", .." : "");
}

}  // namespace ingot::cli
