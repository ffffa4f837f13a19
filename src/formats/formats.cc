#include "formats/formats.h"

#include <algorithm>
#include <filesystem>

#include "base/memory.h"

namespace ingot {
namespace {

struct Format {
  std::string_view name;
  int (*probe)(const Probe&);
  Result<Artifact> (*open)(Store&, const std::string&, Faults*);
};

constexpr Format kFormats[] = {
#define FORMAT(name) {#name, probe_##name, open_##name},
#include "formats/formats.def"
#undef FORMAT
};

std::string known_formats() {
  std::string s;
  for (const auto& f : kFormats) s += (s.empty() ? "" : ", ") + std::string(f.name);
  return s;
}

bool looks_like_repository(const std::string& path) {
  const auto slash = path.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == path.size()) return false;
  return path.find('/', slash + 1) == std::string::npos && path[0] != '.' && path.find("..") == std::string::npos;
}

// The same place by a path that ends in its name, from which a model's name is made: "base", "base/", "base/.", and in the
// local file system "." and "x/.." too.
std::string named_path(const Store& store, std::string path) {
  while (path.size() > 1 && (path.back() == '/' || path.ends_with("/."))) path.pop_back();
  const std::string last = file_name(path);
  if ((last == "." || last == "..") && &store == &local_store()) {
    std::error_code error;
    if (const auto real = std::filesystem::canonical(path, error); !error) return real.string();
  }
  return path;
}

Error nothing_there(const std::string& path) {
  if (path.find("://") != std::string::npos)
    return bad_input("opening {}: URLs are not supported yet; download it and give the local path", path);
  if (looks_like_repository(path))
    return bad_input(
        "opening {}: no such file or directory, and names of the form org/model cannot be fetched yet; download the "
        "model and give the local path",
        path);
  return bad_input("opening {}: no such file or directory; check the path", path);
}

}  // namespace

bool Probe::has(std::string_view name) const { return std::find(names.begin(), names.end(), name) != names.end(); }

std::vector<std::string_view> format_names() {
  std::vector<std::string_view> v;
  for (const auto& f : kFormats) v.push_back(f.name);
  return v;
}

Result<Artifact> open_model(Store& store, const std::string& given, Faults* faults) {
  const std::string path = named_path(store, given);
  if (path.empty()) return usage("opening a model: the path is empty; give a file or a directory");
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there) return nothing_there(path);
  Probe probe;
  probe.path = path;
  probe.directory = there->directory();
  if (probe.directory) {
    INGOT_ASSIGN(auto entries, store.list(path));
    for (auto& e : entries) probe.names.push_back(std::move(e.name));
    std::sort(probe.names.begin(), probe.names.end());
  } else {
    INGOT_ASSIGN(auto file, store.open(path));
    probe.size = file->size();
    if (probe.size == 0) return bad_input("opening {}: the file is empty; copy or download it again", path);
    probe.head.resize(std::min(probe.size, kProbeBytes));
    INGOT_TRY(file->read(0, MutByteView(reinterpret_cast<std::byte*>(probe.head.data()), probe.head.size())));
  }
  const Format* best = nullptr;
  int best_score = 0;
  for (const auto& f : kFormats) {
    const int score = f.probe(probe);
    if (score > best_score) best = &f, best_score = score;
  }
  if (best) return within_memory("opening " + path, [&] { return best->open(store, path, faults); });
  if (probe.directory)
    return bad_input(
        "opening {}: the directory holds no model that ingot knows: expected model.safetensors, "
        "model.safetensors.index.json or adapter_config.json among its {} entries; readable formats: {}",
        path, probe.names.size(), known_formats());
  return bad_input("opening {}: the content is of no format that ingot knows ({}); is the file whole?", path,
                   known_formats());
}

}  // namespace ingot
