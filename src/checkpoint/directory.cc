#include "checkpoint/directory.h"

#include <algorithm>

#include "commit/names.h"
#include "commit/small_file.h"
#include "commit/verify.h"
#include "formats/hf_weights.h"
#include "formats/json.h"
#include "formats/safetensors.h"

namespace ingot::checkpoint {
namespace {

constexpr uint64_t kTextLimit = 64u << 20;

// The step that a directory's name tells.
std::optional<int64_t> step_named(const std::string& name) {
  static constexpr std::string_view kFamilies[] = {"checkpoint-", "checkpoint_", "step-", "step_", "global_step"};
  const auto step = step_of(name);
  if (!step || *step > INT64_MAX || std::find(std::begin(kFamilies), std::end(kFamilies), family_of(name)) == std::end(kFamilies)) return std::nullopt;
  return static_cast<int64_t>(*step);
}

using Files = std::map<std::string, Stat>;  // by their names in the directory

// Those that could be looked at.
Files files_in(Store& store, const std::string& path, const std::vector<Entry>& entries) {
  Files files;
  for (const Entry& e : entries)
    if (const auto s = e.directory ? Result<std::optional<Stat>>(std::nullopt) : store.stat(join_path(path, e.name)); s.ok() && *s) files.emplace(e.name, **s);
  return files;
}

// `known`: what has been looked at already.
Status check_objects(Store& store, const std::string& path, const Manifest& m, const Files& known) {
  for (const Object& o : m.objects) {
    const std::string file = join_path(path, o.file());
    const auto it = known.find(o.file());
    INGOT_ASSIGN(const auto there, it == known.end() ? store.stat(file) : Result<std::optional<Stat>>(it->second));
    if (!there || there->kind != Stat::Kind::kFile) return bad_input("{} is not there", file);
    if (there->size != o.file_bytes()) return bad_input("{} has {} bytes, its manifest says {}", file, there->size, o.file_bytes());
  }
  return {};
}

// A bucket may have got any of a lost machine's files, and not that of its writer: those of tensors say themselves whose they are.
bool made_here(Store& store, const std::string& path, const Files& files) {
  return std::any_of(files.begin(), files.end(), [&](const auto& file) {
    if (!file.first.ends_with(".safetensors")) return false;
    const auto f = read_safetensors(store, join_path(path, file.first));
    return f.ok() && f->metadata.contains("ingot") && f->metadata.at("ingot") == "checkpoint";
  });
}

}  // namespace

const char* state_name(State s) {
  constexpr const char* kNames[] = {"whole", "torn", "quarantined", "newer", "unverified"};
  return kNames[static_cast<int>(s)];
}

int64_t writer_of(Store& store, const std::string& path) {
  const std::string file = join_path(path, kWriterFile);
  const auto text = read_text(store, file, 1 << 16);
  const auto j = text.ok() ? parse_json(*text, file) : Result<Json>(failed("nothing"));
  return j.ok() && json_string(*j, "ingot") == "writer" ? std::max<int64_t>(json_int(*j, "epoch").value_or(0), 0) : 0;
}

Result<Found> look_at(Store& store, const std::string& path, const Found* before) {
  Found f;
  f.path = path;
  const auto step = step_named(file_name(path));
  f.step = step.value_or(0);
  INGOT_ASSIGN(const auto entries, store.list(path));
  const Files files = files_in(store, path, entries);
  for (const auto& [name, s] : files) {
    f.bytes += s.size;
    if (s.links == 1) f.unique += s.size;
    else f.shared.emplace_back(s.identity, s.size);
  }
  for (const Entry& e : entries)
    if (e.directory) f.bytes += tree_bytes(store, join_path(path, e.name));
  f.pinned = files.contains(kPinnedFile);
  const std::string record = join_path(path, kManifestFile);
  if (!files.contains(kManifestFile)) {
    // In what others make nothing tells whether it is whole.
    const bool none = std::none_of(entries.begin(), entries.end(), [](const Entry& e) { return e.name == kManifestFile; });  // rather than one that cannot be looked at
    f.writer = none && files.contains(kWriterFile) ? writer_of(store, path) : 0;
    // Texts alone (an index that got to a bucket before what it names) are nobody's checkpoint.
    const bool texts = std::all_of(entries.begin(), entries.end(), [](const Entry& e) { return !e.directory && (e.name.ends_with(".json") || e.name == kPinnedFile); });
    const bool ours = texts || files.contains(kWriterFile) || files.contains(kStateFile) || made_here(store, path, files);
    f.state = ours ? State::kTorn : State::kUnverified;
    f.reason = ours ? "it has no manifest: its save did not end" : "it has no manifest: other software made it";
    return f;
  }
  f.manifest_identity = files.at(kManifestFile).identity;
  if (before && !before->manifest.objects.empty() && before->manifest_identity == f.manifest_identity) {
    f.manifest = before->manifest;
    f.uploaded = before->uploaded;
  } else {
    auto text = read_text(store, record, kTextLimit);
    auto manifest = text.ok() ? parse_manifest(*text, record) : Result<Manifest>(text.take_error());
    if (!manifest.ok()) {
      f.reason = manifest.error().message;
      if (manifest.error().kind == ErrorKind::kUsage) f.state = State::kNewer;
      return f;
    }
    f.manifest = std::move(*manifest);
  }
  if (step && f.manifest.step != f.step) {
    f.reason = fmt::format("its manifest says step {}: the directory has been renamed", f.manifest.step);
    return f;
  }
  f.step = f.manifest.step;
  f.metrics = f.manifest.metrics;
  if (const auto late_file = files.find(kMetricsFile); late_file != files.end()) {
    // A torn one takes nothing away from the checkpoint.
    const std::string late = join_path(path, kMetricsFile);
    f.late_identity = late_file->second.identity;
    if (before && before->late_identity == f.late_identity) {
      f.late = before->late, f.late_reason = before->late_reason;
    } else if (auto t = read_text(store, late, kTextLimit); t.ok()) {
      if (auto m = parse_late_metrics(*t, late); m.ok()) f.late = std::move(*m);
      else f.late_reason = m.error().message;
    }
    for (const auto& [name, value] : f.late) f.metrics[name] = value;
  }
  if (files.contains(kQuarantineFile)) {
    f.state = State::kQuarantined;
    const std::string note = join_path(path, kQuarantineFile);
    if (auto t = read_text(store, note, kTextLimit); t.ok())
      if (auto j = parse_json(*t, note); j.ok()) f.reason = json_string(*j, "reason").value_or("");
    return f;
  }
  if (Status s = check_objects(store, path, f.manifest, files); !s.ok()) {
    f.reason = s.error().message;
    // An error of the medium is no answer: nobody may remove it for that.
    f.writer = files.contains(kWriterFile) && s.error().kind == ErrorKind::kBadInput ? f.manifest.epoch : 0;  // on a mount the manifest may get there before the rest
    return f;
  }
  f.state = State::kWhole;
  return f;
}

Result<std::vector<Found>> scan(Store& store, const std::string& directory, const std::vector<Found>& before) {
  std::vector<Found> all;
  INGOT_ASSIGN(const auto there, store.stat(directory));
  if (!there) return all;
  INGOT_ASSIGN(const auto entries, store.list(directory));
  for (const Entry& e : entries) {
    if (!e.directory || !step_named(e.name)) continue;
    // One that cannot be looked at (it went away meanwhile) is none.
    const std::string path = join_path(directory, e.name);
    const auto known = std::find_if(before.begin(), before.end(), [&](const Found& f) { return f.path == path; });
    if (auto f = look_at(store, path, known == before.end() ? nullptr : &*known); f.ok()) all.push_back(std::move(*f));
  }
  const auto age = [](const Found& f) { return std::tuple(f.manifest.objects.empty() ? 0 : f.manifest.epoch, f.step); };
  std::sort(all.begin(), all.end(), [&](const Found& a, const Found& b) { return age(a) > age(b); });
  return all;
}

uint64_t disk_bytes(const std::vector<Found>& all, const std::function<bool(size_t)>& counts) {
  std::map<std::string, uint64_t> shared;
  uint64_t sum = 0;
  for (size_t i = 0; i < all.size(); ++i)
    if (!counts || counts(i)) {
      sum += all[i].bytes;
      for (const auto& [identity, bytes] : all[i].shared)
        if (!shared.emplace(identity, bytes).second) sum -= bytes;
    }
  return sum;
}

std::vector<size_t> sharing(const std::vector<Found>& all, size_t i) {
  std::vector<size_t> out;
  for (size_t k = 0; k < all.size(); ++k)
    if (k != i && std::any_of(all[k].shared.begin(), all[k].shared.end(), [&](const auto& s) { return std::find(all[i].shared.begin(), all[i].shared.end(), s) != all[i].shared.end(); })) out.push_back(k);
  return out;
}

Status put_writer(Store& store, const std::string& path, int64_t epoch, double time) {
  OrderedJson j;
  j["ingot"] = "writer", j["epoch"] = epoch, j["time"] = time;
  return replace_text(store, join_path(path, kWriterFile), json_text(j));
}

Result<std::string> read_object(Store& store, const Found& c, const std::string& name) {
  const Object* o = c.manifest.find(name);
  if (!o) return bad_input("reading {}: its manifest names no {}", c.path, name);
  const std::string file = join_path(c.path, name);
  INGOT_ASSIGN(std::string text, read_text(store, file, o->bytes));
  TreeHasher tree;
  tree.update(as_bytes(text));
  if (const std::string found = tree.root(); text.size() != o->bytes || found != o->hash)
    return bad_input("reading {}: its hash is {}, the manifest says {}: its bytes have changed", file, found, o->hash);
  return text;
}

Status verify(Store& store, const Found& c, int threads) {
  if (c.state == State::kTorn || c.manifest.objects.empty()) return bad_input("verifying {}: {}", c.path, c.reason);
  INGOT_TRY(check_objects(store, c.path, c.manifest, {}));
  VerifyRun run;
  run.threads = threads;
  const auto view = make_framed_store(store);
  for (const Object& o : c.manifest.objects) {
    const std::string file = join_path(c.path, o.name);
    INGOT_ASSIGN(const TreeHash found, hash_tree(*view, file, run));
    if (found.root != o.hash) return bad_input("verifying {}: its hash is {}, the manifest says {}: its bytes have changed", file, found.root, o.hash);
  }
  return {};
}

Status put_latest(Store& store, const std::string& directory, int64_t step) { return replace_text(store, join_path(directory, "latest"), fmt::format("{}\n", step)); }

Status put_metrics(Store& store, const Found& c, const Metrics& metrics) {
  const std::string path = join_path(c.path, kMetricsFile);
  Metrics all;
  if (auto t = read_text(store, path, kTextLimit); t.ok())
    if (auto m = parse_late_metrics(*t, path); m.ok()) all = std::move(*m);
  for (const auto& [name, value] : metrics) all[name] = value;
  return replace_text(store, path, late_metrics_text(all), false);
}

Status put_pinned(Store& store, const Found& c, bool pinned) {
  const std::string path = join_path(c.path, kPinnedFile);
  return pinned ? replace_text(store, path, "", false) : remove_durably(store, path);
}

Status put_quarantine(Store& store, const Found& c, const std::string& reason, double time) {
  OrderedJson j;
  j["reason"] = reason, j["time"] = time;
  return replace_text(store, join_path(c.path, kQuarantineFile), json_text(j), false);
}

}  // namespace ingot::checkpoint
