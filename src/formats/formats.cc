#include "formats/formats.h"

#include <algorithm>

#include "base/memory.h"
#include "base/utf8.h"
#include "formats/checkpoints_in.h"
#include "formats/gguf_blocks.h"
#include "formats/hf_weights.h"
#include "formats/no_model.h"
#include "formats/safetensors.h"
#include "storage/hub.h"

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

bool is_read(const Probe& p, const std::string& name) {
  const auto& side = tokenizer_side_files();
  if (name.starts_with(kTorchName) || (name.starts_with("pytorch_model-") && name.ends_with(".bin"))) return !p.find(kSingleName) && !p.find(kIndexName);
  return name.ends_with(".safetensors") || name.ends_with(".gguf") || name == kIndexName || name == "config.json" || name == "adapter_config.json" ||
         std::find(side.begin(), side.end(), name) != side.end();
}

// A snapshot of the Hub's cache is links to blobs, which go when a cache is cleaned by hand or copied without them: all that are absent are
// named at once, of those that an opener reads.
Status check_links(Store& store, const Probe& p) {
  if (!hub_snapshot(p.path)) return {};
  std::vector<std::string> absent;
  for (const Entry& e : p.entries) {
    if (e.directory || !is_read(p, e.name) || (e.name == kSingleName && p.find(kIndexName))) continue;  // find_weights() takes the index then
    INGOT_ASSIGN(const auto there, store.stat(join_path(p.path, e.name)));
    if (there && there->kind == Stat::Kind::kDangling) absent.push_back(e.name);
  }
  if (absent.empty()) return {};
  return bad_input("opening {}: the snapshot is incomplete, of these files the cache has only the names: {}. Download it again{}", p.path,
                   some_of(absent, 8), hub_download(store, p.path));
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
    // A commit within its cache is known by the folders above it.
    const std::string last = file_name(p.path);
    const bool commit = last.size() == 40 && last.find_first_not_of("0123456789abcdef") == std::string::npos && !hub_snapshot(p.path);
    if (last == "." || last == ".." || commit)
      if (auto real = store.resolve(p.path); real.ok()) p.path = *std::move(real);
    INGOT_TRY(check_links(store, p));
    return p;
  }
  auto file = open_head(store, p.path);
  if (!file.ok()) {
    INGOT_ASSIGN(const auto there, store.stat(p.path));
    if (!there) return bad_input("opening {}: no such file or directory; check the path", p.path);
    return there->directory() ? entries.take_error() : file.take_error();
  }
  p.file = *std::move(file);
  if (p.file.head.empty()) return bad_input("opening {}: the file is empty; copy or download it again", p.path);
  return p;
}

namespace {

std::pair<const Format*, int> surest(const Probe& probe) {
  std::pair<const Format*, int> best{nullptr, 0};
  for (const auto& f : kFormats)
    if (const int score = f.probe(probe); score > best.second) best = {&f, score};
  return best;
}

// Of what is given instead of a model: a dataset, most often.
const char* what_else(std::string_view head) {
  if (head.starts_with("PAR1")) return "it is a Parquet file, a dataset's";
  std::string_view text = head.substr(0, std::min<size_t>(head.size(), 512));
  for (int cut = 0; cut < 3 && !text.empty() && !valid_utf8(text); ++cut) text.remove_suffix(1);  // within a character
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t'; };
  const bool plain = text.size() > 1 && valid_utf8(text) && std::none_of(text.begin(), text.end(), control);
  return plain ? "it is text, not weights" : "is the file whole?";
}

// `above`: directories of checkpoints that it was found in.
Result<Artifact> open_at(Store& store, const std::string& path, Faults* faults, int above) {
  INGOT_ASSIGN(const Probe probe, look_at(store, path));
  INGOT_TRY(check_no_model(store, probe));
  const auto [best, score] = surest(probe);
  constexpr int kMostAbove = 4;  // lightning_logs/version_0/checkpoints/x.ckpt/; a link could lead back for ever
  if (probe.directory && score <= kStrayScore && above < kMostAbove) {
    INGOT_ASSIGN(const auto meant, checkpoint_meant(store, probe, score > kConfigScore));
    if (meant) {
      auto a = open_at(store, meant->path, faults, above + 1);
      if (!a.ok()) return Error{a.error().kind, a.error().message + meant->others};
      a->notices.insert(a->notices.begin(), meant->notice);
      if (!a->files.contains("config.json") && probe.find("config.json")) {
        INGOT_ASSIGN(auto beside, read_side_files(store, probe.path));
        a->files.merge(beside);
      }
      return a;
    }
  }
  if (best)
    return within_memory("opening " + probe.path, [&, open = best->open]() -> Result<Artifact> {
      INGOT_ASSIGN(Artifact a, open(store, probe, faults));
      return gguf_from_bytes(std::move(a));
    });
  if (probe.directory)
    return bad_input(
        "opening {}: the directory holds no model that ingot knows: expected model.safetensors, pytorch_model.bin, "
        "an index of either or adapter_config.json among its {} entries{}; readable formats: {}",
        probe.path, probe.entries.size(), without_weights(store, probe), known_formats());
  if (probe.path.ends_with(".json"))
    return bad_input("opening {}: it is JSON, not weights; give the directory that it lies in: {}", probe.path, parent_path(probe.path));
  return bad_input("opening {}: the content is of no format that ingot knows ({}); {}", probe.path, known_formats(), what_else(probe.file.head));
}

}  // namespace

int surest_score(const Probe& probe) { return surest(probe).second; }

Result<Artifact> open_model(Store& store, const std::string& path, Faults* faults) { return open_at(store, path, faults, 0); }

}  // namespace ingot
