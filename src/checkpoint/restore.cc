#include "checkpoint/restore.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>

#include "base/threads.h"
#include "commit/verify.h"
#include "formats/file_ranges.h"
#include "formats/safetensors.h"
#include "formats/shared_tensors.h"
#include "kernels/hash.h"

namespace ingot::checkpoint {
namespace {

constexpr std::string_view kEnd = ".safetensors";
using Hashes = std::vector<std::optional<Hash128>>;

struct Place {
  uint64_t offset;
  MutByteView into;
};

}  // namespace

std::string group_of(std::string_view file) {
  constexpr std::string_view kIndex = ".index.json";
  if (file.ends_with(kIndex)) file.remove_suffix(kIndex.size());
  if (!file.ends_with(kEnd)) return "";
  std::string_view stem = file.substr(0, file.size() - kEnd.size());
  const size_t dash = stem.size() > 15 ? stem.size() - 15 : std::string_view::npos;
  if (dash != std::string_view::npos && stem[dash] == '-' && stem.substr(dash + 6, 4) == "-of-") stem = stem.substr(0, dash);
  return std::string(without_rank(stem));
}

Result<std::vector<Stored>> tensors_of(Store& store, const Found& c) {
  std::vector<Stored> all;
  const auto view = make_framed_store(store);
  for (const Object& o : c.manifest.objects) {
    if (!std::string_view(o.name).ends_with(kEnd)) continue;
    const std::string path = join_path(c.path, o.name);
    INGOT_ASSIGN(SafetensorsFile file, read_safetensors(*view, path));
    INGOT_ASSIGN(auto parts, parts_of(file, path));
    for (const LazyTensor& t : file.tensors) {
      const auto* source = dynamic_cast<const Source*>(t.node.get());
      const auto offset = source ? source->offset() : std::nullopt;
      if (!offset && bytes_of(t.spec())) return failed("reading {}: '{}' does not lie in it as it is; this is a defect of ingot", o.name, t.name);
      all.push_back({group_of(o.name), t.name, t.spec(), o.name, offset.value_or(0)});
      if (const auto p = parts.find(t.name); p != parts.end()) all.back().part = std::move(p->second);
    }
  }
  return all;
}

struct Reading::File {
  const Object* object = nullptr;
  std::string path;
  std::unique_ptr<ReadFile> file;  // opened when it is first read
  std::once_flag opened;
  Status open_error;
  std::vector<Place> places;       // by offset
  Hashes hashes;
  std::vector<bool> told;          // leaves that other ranks have heard of
};

Reading::Reading(Store& store, const Found& c, int threads) : view_(make_framed_store(store)), found_(c), threads_(threads) {}
Reading::~Reading() = default;

Result<std::unique_ptr<Reading>> Reading::open(Store& store, const Found& c, int threads) {
  if (c.manifest.objects.empty()) return bad_input("restoring {}: {}", c.path, c.reason);
  std::unique_ptr<Reading> r(new Reading(store, c, threads));
  for (const Object& o : r->found_.manifest.objects) {
    auto& f = r->files_.emplace_back(std::make_unique<File>());
    f->object = &o;
    f->path = join_path(c.path, o.name);
    f->hashes.resize((o.bytes + kLeafBytes - 1) / kLeafBytes);
    f->told.resize(f->hashes.size());
    r->by_name_[o.name] = f.get();
  }
  return r;
}

Status Reading::open(File& f) {
  std::call_once(f.opened, [&] {
    auto file = view_->open(f.path);
    if (!file.ok()) f.open_error = file.error();
    else if ((*file)->size() != f.object->bytes) f.open_error = bad_input("restoring {}: it has {} bytes, its manifest says {}", f.path, (*file)->size(), f.object->bytes);
    else f.file = std::move(*file);
  });
  return f.open_error;
}

Status Reading::look() {
  for (auto& f : files_) INGOT_TRY(open(*f));
  return {};
}

// One leaf: read straight into place where it is all one tensor's, and hashed there.
Status Reading::read_leaf(File& f, uint64_t leaf, std::vector<std::byte>& buffer) {
  INGOT_TRY(open(f));
  const uint64_t at = leaf * kLeafBytes, size = std::min(kLeafBytes, f.object->bytes - at);
  auto p = std::partition_point(f.places.begin(), f.places.end(), [&](const Place& x) { return x.offset + x.into.size() <= at; });
  const bool inside = p != f.places.end() && p->offset <= at && p->offset + p->into.size() >= at + size;
  if (!inside) buffer.resize(kLeafBytes);
  const MutByteView v = inside ? p->into.subspan(at - p->offset, size) : MutByteView(buffer.data(), size);
  INGOT_TRY(f.file->read(at, v));
  bytes_ += size;
  f.hashes[leaf] = hash128(v);
  for (; !inside && p != f.places.end() && p->offset < at + size; ++p) {
    const uint64_t from = std::max(at, p->offset), to = std::min(at + size, p->offset + p->into.size());
    if (from < to) std::memcpy(p->into.data() + (from - p->offset), v.data() + (from - at), to - from);
  }
  return {};
}

Status Reading::read_leaves(const std::vector<std::pair<File*, uint64_t>>& leaves) {
  std::atomic<size_t> next{0};
  return run_on_threads(thread_count(threads_), [&]() -> Status {
    std::vector<std::byte> buffer;
    for (size_t i; (i = next++) < leaves.size();)
      if (Status s = read_leaf(*leaves[i].first, leaves[i].second, buffer); !s.ok()) {
        next = leaves.size();
        return s;
      }
    return {};
  });
}

Status Reading::read(const std::vector<Target>& targets) {
  for (const Target& t : targets) {
    const auto it = by_name_.find(t.from.file);
    if (it == by_name_.end() || t.into.size() != bytes_of(t.from.spec) || t.from.offset > it->second->object->bytes || t.into.size() > it->second->object->bytes - t.from.offset)
      return usage("restoring '{}' of {}: {} bytes at {} were asked for {} of {}", t.from.name, t.from.file, t.into.size(), t.from.offset, bytes_of(t.from.spec), found_.path);
    if (!t.into.empty()) it->second->places.push_back({t.from.offset, t.into});
  }
  std::vector<std::pair<File*, uint64_t>> leaves;
  for (auto& f : files_) {
    std::sort(f->places.begin(), f->places.end(), [](const Place& a, const Place& b) { return a.offset < b.offset; });
    for (uint64_t next = 0; const Place& p : f->places) {
      for (uint64_t l = std::max(next, p.offset / kLeafBytes); l * kLeafBytes < p.offset + p.into.size(); ++l) leaves.emplace_back(f.get(), l), next = l + 1;
    }
  }
  return read_leaves(leaves);
}

Status Reading::read_rest(int rank, int world) {
  std::vector<std::pair<File*, uint64_t>> leaves;
  uint64_t n = 0;
  for (auto& f : files_) {
    f->places.clear();
    for (uint64_t l = 0; l < f->hashes.size(); ++l)
      if (!f->hashes[l] && static_cast<int>(n++ % static_cast<uint64_t>(world)) == rank) leaves.emplace_back(f.get(), l);
  }
  return read_leaves(leaves);
}

std::string Reading::told() {
  ByteWriter w;
  for (size_t i = 0; i < files_.size(); ++i)
    for (uint64_t l = 0; l < files_[i]->hashes.size(); ++l) {
      const auto& h = files_[i]->hashes[l];
      if (!h || files_[i]->told[l]) continue;
      w.write<uint64_t>(i), w.write(l), w.write(h->lo), w.write(h->hi);
      files_[i]->told[l] = true;
    }
  return std::move(w.str());
}

Status Reading::hear(std::string_view told) {
  constexpr size_t kRow = 4 * sizeof(uint64_t);
  const auto wrong = [&] { return failed("restoring {}: another rank tells of bytes that are not in its manifest: it looks at another checkpoint", found_.path); };
  if (told.size() % kRow) return wrong();
  for (; !told.empty(); told.remove_prefix(kRow)) {
    uint64_t row[4];
    std::memcpy(row, told.data(), kRow);
    if (row[0] >= files_.size() || row[1] >= files_[row[0]]->hashes.size()) return wrong();
    File& f = *files_[row[0]];
    const Hash128 h{row[2], row[3]};
    if (f.hashes[row[1]] && !(*f.hashes[row[1]] == h)) return bad_input("restoring {}: two ranks have read different bytes from {} on: its medium is at fault, or it changes", f.path, row[1] * kLeafBytes);
    f.hashes[row[1]] = h, f.told[row[1]] = true;
  }
  return {};
}

Status Reading::check(const File& f) const {
  const std::string found = root_of({{"", f.hashes}});
  if (found == f.object->hash) return {};
  return bad_input("restoring {}: its hash is {}, the manifest says {}: its bytes have changed", f.path, found, f.object->hash);
}

Status Reading::check() const {
  for (const auto& f : files_) INGOT_TRY(check(*f));
  return {};
}

Result<std::vector<Reading::File*>> Reading::named(const std::vector<std::string>& names) const {
  std::vector<File*> files;
  for (const std::string& name : names) {
    const auto it = by_name_.find(name);
    if (it == by_name_.end()) return usage("restoring {}: its manifest has no '{}'", found_.path, name);
    files.push_back(it->second);
  }
  return files;
}

Status Reading::read_files(const std::vector<std::string>& names) {
  INGOT_ASSIGN(const auto files, named(names));
  std::vector<std::pair<File*, uint64_t>> leaves;
  for (File* f : files) {
    INGOT_TRY(open(*f));
    f->places.clear();
    for (uint64_t l = 0; l < f->hashes.size(); ++l)
      if (!f->hashes[l]) leaves.emplace_back(f, l);
  }
  return read_leaves(leaves);
}

Status Reading::check_files(const std::vector<std::string>& names) const {
  INGOT_ASSIGN(const auto files, named(names));
  for (const File* f : files) INGOT_TRY(check(*f));
  return {};
}

Status restore(Store& store, const Found& c, const std::vector<Target>& targets, int threads) {
  INGOT_ASSIGN(const auto reading, Reading::open(store, c, threads));
  INGOT_TRY(reading->look());  // before anything is touched
  INGOT_TRY(reading->read(targets));
  INGOT_TRY(reading->read_rest());
  return reading->check();
}

}  // namespace ingot::checkpoint
