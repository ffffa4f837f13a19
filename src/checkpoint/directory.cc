#include "checkpoint/directory.h"

#include <algorithm>
#include <charconv>

#include "commit/names.h"
#include "commit/small_file.h"
#include "commit/verify.h"
#include "formats/json.h"
#include "kernels/hash.h"

namespace ingot::checkpoint {
namespace {

constexpr uint64_t kTextLimit = 64u << 20;

// The step that a directory's name tells.
std::optional<int64_t> step_of(std::string_view name) {
  for (const std::string_view prefix : {"checkpoint-", "checkpoint_", "step-", "step_", "global_step"}) {
    if (!name.starts_with(prefix)) continue;
    const std::string_view digits = name.substr(prefix.size());
    int64_t step = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    if (error == std::errc() && end == digits.data() + digits.size() && !digits.starts_with('-')) return step;
  }
  return std::nullopt;
}

Status check_objects(Store& store, const std::string& path, const Manifest& m) {
  for (const Object& o : m.objects) {
    const std::string file = join_path(path, o.name);
    INGOT_ASSIGN(const auto there, store.stat(file));
    if (!there || there->kind != Stat::Kind::kFile) return bad_input("{} is not there", file);
    if (there->size != o.bytes) return bad_input("{} has {} bytes, its manifest says {}", file, there->size, o.bytes);
  }
  return {};
}

}  // namespace

const char* state_name(State s) {
  constexpr const char* kNames[] = {"whole", "torn", "quarantined", "newer", "unverified"};
  return kNames[static_cast<int>(s)];
}

Result<Found> look_at(Store& store, const std::string& path, const Found* before) {
  Found f;
  f.path = path;
  const auto step = step_of(file_name(path));
  f.step = step.value_or(0);
  INGOT_ASSIGN(const auto entries, store.list(path));
  const auto has = [&](std::string_view name) { return std::any_of(entries.begin(), entries.end(), [&](const Entry& e) { return e.name == name && !e.directory; }); };
  f.bytes = tree_bytes(store, path);
  for (const Entry& e : entries)
    if (const auto s = store.stat(join_path(path, e.name)); s.ok() && *s && (*s)->links == 1) f.unique += (*s)->size;
  f.pinned = has(kPinnedFile);
  const std::string record = join_path(path, kManifestFile);
  if (!has(kManifestFile)) {
    // One of ours has its nest before its manifest; in what others make nothing tells whether it is whole.
    const bool ours = has(kStateFile) || entries.empty();
    f.state = ours ? State::kTorn : State::kUnverified;
    f.reason = ours ? "it has no manifest: its save did not end" : "it has no manifest: other software made it";
    return f;
  }
  const auto identity = [&](const std::string& file) {
    const auto s = store.stat(file);
    return s.ok() && *s ? (*s)->identity : std::string();
  };
  f.manifest_identity = identity(record);
  if (before && !before->manifest.objects.empty() && before->manifest_identity == f.manifest_identity) {
    f.manifest = before->manifest;
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
  if (has(kMetricsFile)) {
    // A torn one takes nothing away from the checkpoint.
    const std::string late = join_path(path, kMetricsFile);
    f.late_identity = identity(late);
    if (before && before->late_identity == f.late_identity) f.late = before->late;
    else if (auto t = read_text(store, late, kTextLimit); t.ok())
      if (auto m = parse_metrics(*t, late); m.ok()) f.late = std::move(*m);
    for (const auto& [name, value] : f.late) f.metrics[name] = value;
  }
  if (has(kQuarantineFile)) {
    f.state = State::kQuarantined;
    const std::string note = join_path(path, kQuarantineFile);
    if (auto t = read_text(store, note, kTextLimit); t.ok())
      if (auto j = parse_json(*t, note); j.ok()) f.reason = json_string(*j, "reason").value_or("");
    return f;
  }
  if (Status s = check_objects(store, path, f.manifest); !s.ok()) {
    f.reason = s.error().message;
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
    if (!e.directory || !step_of(e.name)) continue;
    // One that cannot be looked at (it went away meanwhile) is none.
    const std::string path = join_path(directory, e.name);
    const auto known = std::find_if(before.begin(), before.end(), [&](const Found& f) { return f.path == path; });
    if (auto f = look_at(store, path, known == before.end() ? nullptr : &*known); f.ok()) all.push_back(std::move(*f));
  }
  const auto age = [](const Found& f) { return std::tuple(f.manifest.objects.empty() ? 0 : f.manifest.epoch, f.step); };
  std::sort(all.begin(), all.end(), [&](const Found& a, const Found& b) { return age(a) > age(b); });
  return all;
}

Result<std::string> read_object(Store& store, const Found& c, const std::string& name) {
  const Object* o = c.manifest.find(name);
  if (!o) return bad_input("reading {}: its manifest names no {}", c.path, name);
  const std::string file = join_path(c.path, name);
  INGOT_ASSIGN(std::string text, read_text(store, file, o->bytes));
  std::vector<std::optional<Hash128>> leaves;
  constexpr size_t kLeaf = 1 << 20;
  for (size_t at = 0; at < text.size(); at += kLeaf) leaves.emplace_back(hash128(as_bytes(std::string_view(text).substr(at, kLeaf))));
  if (const std::string found = root_of({{"", leaves}}); text.size() != o->bytes || found != o->hash)
    return bad_input("reading {}: its hash is {}, the manifest says {}: its bytes have changed", file, found, o->hash);
  return text;
}

Status verify(Store& store, const Found& c, int threads) {
  if (c.manifest.objects.empty()) return bad_input("verifying {}: {}", c.path, c.reason);
  INGOT_TRY(check_objects(store, c.path, c.manifest));
  VerifyRun run;
  run.threads = threads;
  for (const Object& o : c.manifest.objects) {
    const std::string file = join_path(c.path, o.name);
    INGOT_ASSIGN(const TreeHash found, hash_tree(store, file, run));
    if (found.root != o.hash) return bad_input("verifying {}: its hash is {}, the manifest says {}: its bytes have changed", file, found.root, o.hash);
  }
  return {};
}

Status put_latest(Store& store, const std::string& directory, int64_t step) { return replace_text(store, join_path(directory, "latest"), fmt::format("{}\n", step)); }

Status put_metrics(Store& store, const Found& c, const Metrics& metrics) {
  const std::string path = join_path(c.path, kMetricsFile);
  Metrics all;
  if (auto t = read_text(store, path, kTextLimit); t.ok())
    if (auto m = parse_metrics(*t, path); m.ok()) all = std::move(*m);
  for (const auto& [name, value] : metrics) all[name] = value;
  return replace_text(store, path, metrics_text(all) + "\n");
}

Status put_pinned(Store& store, const Found& c, bool pinned) {
  const std::string path = join_path(c.path, kPinnedFile);
  return pinned ? replace_text(store, path, "") : remove_file(store, path);
}

Status put_quarantine(Store& store, const Found& c, const std::string& reason, double time) {
  OrderedJson j;
  j["reason"] = reason, j["time"] = time;
  return replace_text(store, join_path(c.path, kQuarantineFile), json_text(j));
}

}  // namespace ingot::checkpoint
