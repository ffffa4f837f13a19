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

// A folder that somebody collects GGUF files in.
Status check_gguf_files(Store& store, const std::string& path) {
  std::vector<std::string> names;
  const auto entries = store.list(path);
  if (!entries.ok()) return {};  // opening it tells why
  for (const Entry& e : *entries) {
    const std::string& name = e.name;
    if (name == "adapter_config.json" || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) return {};
    if (name.ends_with(".gguf") && name[0] != '.') names.push_back(name);
  }
  if (names.empty()) return {};
  const std::string first = join_path(path, *std::min_element(names.begin(), names.end()));
  if (names.size() == 1) return bad_input("'{}' is a directory with one GGUF file; give the file: '{}'", path, first);
  return bad_input("'{}' is a directory with {} GGUF files; give one of them, like '{}'", path, names.size(), first);
}

}  // namespace

Status check_model_folder(const Located& given) {
  Store& store = *given.store;
  std::string path = given.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  INGOT_ASSIGN(const bool directory, is_directory(store, path));
  if (!directory) return {};
  INGOT_ASSIGN(const auto config, store.stat(join_path(path, "config.json")));
  if (config) return {};
  const std::string folder = file_name(path) == "snapshots" ? parent_path(path) : path;
  INGOT_ASSIGN(const std::string name, repository_at(store, folder));
  if (!name.empty()) return repository(store, given.path, folder, name);
  const std::string hub = directories_in(store, path, "models--").empty() ? join_path(path, "hub") : path;
  const auto models = directories_in(store, hub, "models--");
  if (models.empty()) return check_gguf_files(store, path);
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
