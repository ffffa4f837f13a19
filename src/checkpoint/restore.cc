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
#include "kernels/hash.h"

namespace ingot::checkpoint {
namespace {

constexpr std::string_view kEnd = ".safetensors";
constexpr size_t kRankEnd = std::string_view("-rank-00000").size();  // of the stem of a rank's own files

struct Place {
  uint64_t offset;
  MutByteView into;
};

struct File {
  const Object* object = nullptr;
  std::string path;
  std::unique_ptr<ReadFile> file;
  std::vector<Place> places;  // by offset
  std::vector<std::optional<Hash128>> hashes;
};

// One leaf: read straight into place where it is all one tensor's, and hashed there.
Status read_leaf(File& f, uint64_t leaf, std::vector<std::byte>& buffer) {
  const uint64_t at = leaf * kLeafBytes, size = std::min(kLeafBytes, f.object->bytes - at);
  auto p = std::partition_point(f.places.begin(), f.places.end(), [&](const Place& x) { return x.offset + x.into.size() <= at; });
  const bool inside = p != f.places.end() && p->offset <= at && p->offset + p->into.size() >= at + size;
  if (!inside) buffer.resize(kLeafBytes);
  const MutByteView v = inside ? p->into.subspan(at - p->offset, size) : MutByteView(buffer.data(), size);
  INGOT_TRY(f.file->read(at, v));
  f.hashes[leaf] = hash128(v);
  for (; !inside && p != f.places.end() && p->offset < at + size; ++p) {
    const uint64_t from = std::max(at, p->offset), to = std::min(at + size, p->offset + p->into.size());
    if (from < to) std::memcpy(p->into.data() + (from - p->offset), v.data() + (from - at), to - from);
  }
  return {};
}

}  // namespace

std::string group_of(std::string_view file) {
  constexpr std::string_view kIndex = ".index.json";
  if (file.ends_with(kIndex)) file.remove_suffix(kIndex.size());
  if (!file.ends_with(kEnd)) return "";
  std::string_view stem = file.substr(0, file.size() - kEnd.size());
  const size_t dash = stem.size() > 15 ? stem.size() - 15 : std::string_view::npos;
  if (dash != std::string_view::npos && stem[dash] == '-' && stem.substr(dash + 6, 4) == "-of-") stem = stem.substr(0, dash);
  if (const size_t rank = stem.size() > kRankEnd ? stem.size() - kRankEnd : 0; rank && stem.substr(rank, 6) == "-rank-") stem = stem.substr(0, rank);
  return std::string(stem);
}

Result<std::vector<Stored>> tensors_of(Store& store, const Found& c) {
  std::vector<Stored> all;
  const auto view = make_framed_store(store);
  for (const Object& o : c.manifest.objects) {
    if (!std::string_view(o.name).ends_with(kEnd)) continue;
    INGOT_ASSIGN(SafetensorsFile file, read_safetensors(*view, join_path(c.path, o.name)));
    for (const LazyTensor& t : file.tensors) {
      const auto* source = dynamic_cast<const Source*>(t.node.get());
      const auto offset = source ? source->offset() : std::nullopt;
      if (!offset && bytes_of(t.spec())) return failed("reading {}: '{}' does not lie in it as it is; this is a defect of ingot", o.name, t.name);
      all.push_back({group_of(o.name), t.name, t.spec(), o.name, offset.value_or(0)});
    }
  }
  return all;
}

Status restore(Store& store, const Found& c, const std::vector<Target>& targets, int threads) {
  if (c.manifest.objects.empty()) return bad_input("restoring {}: {}", c.path, c.reason);
  std::map<std::string, File> files;
  const auto view = make_framed_store(store);
  for (const Object& o : c.manifest.objects) {
    File& f = files[o.name];
    f.object = &o;
    f.path = join_path(c.path, o.name);
    INGOT_ASSIGN(f.file, view->open(f.path));
    if (f.file->size() != o.bytes) return bad_input("restoring {}: it has {} bytes, its manifest says {}", f.path, f.file->size(), o.bytes);
    f.hashes.resize((o.bytes + kLeafBytes - 1) / kLeafBytes);
  }
  for (const Target& t : targets) {
    const auto it = files.find(t.from.file);
    if (it == files.end() || t.into.size() != bytes_of(t.from.spec)) return usage("restoring '{}' of {}: {} bytes were given for {} of {}", t.from.name, t.from.file, t.into.size(), bytes_of(t.from.spec), c.path);
    if (!t.into.empty()) it->second.places.push_back({t.from.offset, t.into});
  }
  std::vector<std::pair<File*, uint64_t>> leaves;
  for (auto& [name, f] : files) {
    std::sort(f.places.begin(), f.places.end(), [](const Place& a, const Place& b) { return a.offset < b.offset; });
    for (uint64_t l = 0; l < f.hashes.size(); ++l) leaves.emplace_back(&f, l);
  }
  std::atomic<size_t> next{0};
  INGOT_TRY(run_on_threads(thread_count(threads), [&]() -> Status {
    std::vector<std::byte> buffer;
    for (size_t i; (i = next++) < leaves.size();)
      if (Status s = read_leaf(*leaves[i].first, leaves[i].second, buffer); !s.ok()) {
        next = leaves.size();
        return s;
      }
    return {};
  }));
  for (const auto& [name, f] : files)
    if (const std::string found = root_of({{"", f.hashes}}); found != f.object->hash)
      return bad_input("restoring {}: its hash is {}, the manifest says {}: its bytes have changed", f.path, found, f.object->hash);
  return {};
}

}  // namespace ingot::checkpoint
