// torch's files before 1.6 (_use_new_zipfile_serialization=False): pickles of a magic number, a protocol, the writer's machine, the object and the keys of its
// storages, one after another; then the storages in the order of their keys, each a u64 count of elements and the elements, little-endian.
#include <algorithm>
#include <array>
#include <cstring>

#include "formats/pickle_values.h"
#include "formats/torch_file.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

// LONG1 of the magic number 0x1950a86a20f9469cfc6c, behind PROTO 2 or, for others, a FRAME.
constexpr std::string_view kMagic("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13);

// Pickles of a file whose lengths stand nowhere: as many bytes as they turn out to need are read.
class Pickles {
 public:
  explicit Pickles(const OpenedFile& file) : file_(file), bytes_(file.head) {}
  uint64_t at() const { return at_; }
  std::string_view before() const { return std::string_view(bytes_).substr(0, at_); }

  Result<Pickle> next(const char* what) {
    for (;;) {
      size_t end = 0;
      bool cut = false;
      auto p = Pickle::run(bytes_, fmt::format("reading {} ({})", file_.path, what), at_, &end, &cut);
      if (p.ok()) at_ = end;
      const uint64_t size = file_.file->size();
      if (p.ok() || !cut || bytes_.size() >= std::min(size, Pickle::kMaxBytes)) return p;
      const uint64_t had = bytes_.size();
      bytes_.resize(std::min({size, Pickle::kMaxBytes, std::max<uint64_t>(had * 4, 1 << 20)}));
      INGOT_TRY(file_.file->read(had, {reinterpret_cast<std::byte*>(bytes_.data()) + had, bytes_.size() - had}));
    }
  }

 private:
  const OpenedFile& file_;
  std::string bytes_;
  uint64_t at_ = 0;
};

// Where the storages lie: their sizes stand before them, the sizes of their elements in the pickle.
Result<TorchStorages> find_storages(const OpenedFile& file, const Pickle& state, const PickleValue& keys, uint64_t at) {
  const std::string& path = file.path;
  std::unordered_map<std::string, TorchStorageId> claimed;
  for (const PickleValue* v : state.persistent()) {
    const auto id = torch_storage_id(*v);
    if (!id) return bad_input("reading {}: it refers to something outside its pickle that is no storage; the file is damaged, or made to mislead", path);
    const auto& first = claimed.emplace(id->key, *id).first->second;
    if (first.bytes != id->bytes || first.item != id->item)
      return bad_input("reading {}: the storage '{}' has {} bytes as a {}, and {} as a {}; the file is damaged, or made to mislead", path, id->key, first.bytes, first.type_name, id->bytes,
                       id->type_name);
  }
  if (!keys.is_sequence()) return bad_input("reading {}: the keys of its storages are no list; the file is damaged", path);
  TorchStorages storages;
  for (const PickleValue* k : keys.items()) {
    const std::string key = pickle_key(*k);
    const auto id = claimed.find(key);
    if (id == claimed.end()) return bad_input("reading {}: it holds a storage '{}' that no tensor uses; the file is damaged", path, key);
    uint64_t count = 0, end = 0;
    std::array<std::byte, 8> b;
    if (file.file->size() < 8 || at > file.file->size() - 8) return bad_input("reading {}: it ends at byte {}, before the storage '{}'; the file is truncated, copy it again", path, file.file->size(), key);
    if (at + 8 <= file.head.size()) std::memcpy(b.data(), file.head.data() + at, 8);
    else INGOT_TRY(file.file->read(at, b));
    std::memcpy(&count, b.data(), 8);
    at += 8;
    if (!checked_mul(count, id->second.item, &end) || !checked_add(end, at, &end) || end > file.file->size())
      return bad_input("reading {}: the storage '{}' has {} elements of {} bytes at byte {}, but the file ends at byte {}; it is truncated, copy it again", path, key, count,
                       id->second.item, at, file.file->size());
    if (!storages.emplace(key, TorchStorage{at, end - at, nullptr}).second) return bad_input("reading {}: it holds the storage '{}' twice; the file is damaged", path, key);
    at = end;
  }
  if (at != file.file->size()) return bad_input("reading {}: its storages end at byte {}, the file at {}; bytes were added, or the file is damaged", path, at, file.file->size());
  return storages;
}

}  // namespace

bool is_torch_legacy(std::string_view head) { return head.substr(0, 32).find(kMagic) != std::string_view::npos; }

Result<TorchState> read_torch_legacy(const OpenedFile& file) {
  Pickles in(file);
  if (auto magic = in.next("its magic number"); !magic.ok()) return magic.take_error();
  INGOT_ASSIGN(const Pickle protocol, in.next("its version"));
  if (protocol.root().as_int() != 1001) return bad_input("reading {}: it is torch's old form of version {}; 1001 is known", file.path, pickle_key(protocol.root()));
  if (auto machine = in.next("its machine"); !machine.ok()) return machine.take_error();
  INGOT_ASSIGN(const Pickle state, in.next("its object"));
  INGOT_ASSIGN(const Pickle keys, in.next("the keys of its storages"));
  INGOT_ASSIGN(TorchStorages storages, find_storages(file, state, keys.root(), in.at()));
  auto source = std::make_shared<SourceFile>();
  source->file = file.file, source->path = file.path, source->header_hash = to_hex(hash128(as_bytes(in.before())));
  return torch_state(state, TorchTensors(std::move(source), std::move(storages)), file.path, torch_stem(file.path));
}

}  // namespace ingot
