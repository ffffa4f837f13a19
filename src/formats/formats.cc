#include "formats/formats.h"

#include <algorithm>

#include "base/memory.h"
#include "formats/hf_weights.h"

namespace ingot {
namespace {

struct Format {
  std::string_view name;
  int (*probe)(const Probe&);
  Result<Artifact> (*open)(Store&, const Probe&, Faults*);
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

Error nothing_there(const std::string& path) {
  if (looks_like_repository(path))
    return bad_input(
        "opening {}: no such file or directory, and names of the form org/model cannot be fetched yet; download the "
        "model and give the local path",
        path);
  return bad_input("opening {}: no such file or directory; check the path", path);
}

}  // namespace

const Entry* Probe::find(std::string_view name) const {
  const auto it = std::lower_bound(entries.begin(), entries.end(), name, [](const Entry& e, std::string_view n) { return e.name < n; });
  return it != entries.end() && it->name == name ? &*it : nullptr;
}

std::vector<std::string_view> format_names() {
  std::vector<std::string_view> v;
  for (const auto& f : kFormats) v.push_back(f.name);
  return v;
}

Result<Probe> look_at(Store& store, const std::string& given) {
  Probe p;
  p.path = given;
  // A model's name is made of the path's last part: "base", "base/", "base/." are one.
  while (p.path.size() > 1 && (p.path.back() == '/' || p.path.ends_with("/."))) p.path.pop_back();
  if (p.path.empty()) return usage("opening a model: the path is empty; give a file or a directory");
  auto entries = store.list(p.path);
  if (entries.ok()) {
    p.directory = true;
    p.entries = *std::move(entries);
    std::sort(p.entries.begin(), p.entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
    if (const std::string last = file_name(p.path); last == "." || last == "..")
      if (auto real = store.resolve(p.path); real.ok()) p.path = *std::move(real);
    return p;
  }
  auto file = open_head(store, p.path);
  if (!file.ok()) {
    INGOT_ASSIGN(const auto there, store.stat(p.path));
    if (!there) return nothing_there(p.path);
    return there->directory() ? entries.take_error() : file.take_error();
  }
  p.file = *std::move(file);
  if (p.file.head.empty()) return bad_input("opening {}: the file is empty; copy or download it again", p.path);
  return p;
}

Result<Artifact> open_model(Store& store, const std::string& path, Faults* faults) {
  INGOT_ASSIGN(const Probe probe, look_at(store, path));
  const Format* best = nullptr;
  int best_score = 0;
  for (const auto& f : kFormats) {
    const int score = f.probe(probe);
    if (score > best_score) best = &f, best_score = score;
  }
  if (best) return within_memory("opening " + probe.path, [&] { return best->open(store, probe, faults); });
  if (probe.directory)
    return bad_input(
        "opening {}: the directory holds no model that ingot knows: expected model.safetensors, "
        "model.safetensors.index.json or adapter_config.json among its {} entries{}; readable formats: {}",
        probe.path, probe.entries.size(), without_weights(store, probe), known_formats());
  if (probe.path.ends_with(".json"))
    return bad_input("opening {}: it is JSON, not weights; give the directory that it lies in: {}", probe.path, parent_path(probe.path));
  return bad_input("opening {}: the content is of no format that ingot knows ({}); is the file whole?", probe.path,
                   known_formats());
}

}  // namespace ingot
