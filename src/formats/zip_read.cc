#include "formats/zip_read.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/threads.h"
#include "formats/inflated_file.h"
#include "formats/zip_format.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr uint64_t kEndSize = 22, kEnd64Size = 56, kLocator64Size = 20, kCentralSize = 46, kLocalSize = 30;
constexpr uint64_t kMaxDirectory = 256u << 20;  // about a million records
constexpr uint64_t kSpan = 256 << 10;           // local headers that lie closer are read together
// Bits 1 and 2 say how hard deflate tried, 3 that sizes follow the data, 11 that names are UTF-8.
constexpr uint16_t kKnownFlags = 0x080e, kSizesBehind = 0x0008, kEncrypted = 0x2041;
constexpr uint32_t kFull32 = UINT32_MAX;
constexpr uint16_t kFull16 = UINT16_MAX;

// Little-endian, of bytes whose number is known.
template <class T>
T at(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// "" or why the name of a record is refused.
}  // namespace

std::string_view bad_record_name(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.find('\0') != std::string_view::npos) return "holds a zero byte";
  if (name[0] == '/' || name.find('\\') != std::string_view::npos || (name.size() > 1 && name[1] == ':')) return "is an absolute path or one of Windows";
  for (size_t from = 0; from <= name.size();) {
    const size_t end = std::min(name.find('/', from), name.size());
    if (name.substr(from, end - from) == "..") return "leads out of the archive";
    from = end + 1;
  }
  return "";
}

namespace {

// What 32 bits could not hold, in the order of the format; false where the field is not there or too short.
bool read_zip64(ByteView extra, std::initializer_list<std::pair<uint64_t*, bool>> fields) {
  ByteReader in(extra);
  for (uint16_t id = 0, size = 0; in.read(&id) && in.read(&size);) {
    ByteView body;
    if (!in.view(size, &body)) return false;
    if (id != kZip64) continue;
    ByteReader values(body);
    for (const auto& [value, wanted] : fields)
      if (wanted && !values.read(value)) return false;
    return true;
  }
  return false;
}

}  // namespace

const ZipEntry* ZipFile::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

Status ZipFile::bytes_at(uint64_t offset, MutByteView out) const {
  if (out.empty()) return {};
  if (uint64_t end = 0; checked_add(offset, out.size(), &end) && end <= file_.head.size()) {
    std::memcpy(out.data(), file_.head.data() + offset, out.size());
    return {};
  }
  return file_.file->read(offset, out);
}

Result<ZipFile> ZipFile::open(const OpenedFile& opened) {
  ZipFile zip;
  zip.file_ = opened;
  const std::string& path = opened.path;
  const uint64_t size = opened.file->size();
  std::vector<std::byte> tail(std::min<uint64_t>(size, kEndSize + kFull16 + kLocator64Size + kEnd64Size));
  const uint64_t tail_at = size - tail.size();
  INGOT_TRY(zip.bytes_at(tail_at, tail));
  uint64_t end = tail.size();
  for (uint64_t i = tail.size() >= kEndSize ? tail.size() - kEndSize + 1 : 0; i-- > 0;)
    if (at<uint32_t>(&tail[i]) == kEndMark) {
      end = i;
      break;
    }
  if (end == tail.size())
    return bad_input("reading {}: it begins as a ZIP archive, but has no end record; the file is truncated ({} bytes are there), copy it again", path, size);
  const std::byte* e = &tail[end];
  const uint64_t end_at = tail_at + end;
  if (end_at + kEndSize + at<uint16_t>(e + 20) != size)
    return bad_input("reading {}: the ZIP archive ends at byte {} by its end record, the file at {}; bytes are missing or were added, copy it again", path,
                     end_at + kEndSize + at<uint16_t>(e + 20), size);
  uint64_t disks = uint64_t{at<uint16_t>(e + 4)} + at<uint16_t>(e + 6), here = at<uint16_t>(e + 8), count = at<uint16_t>(e + 10);
  uint64_t bytes = at<uint32_t>(e + 12), begin = at<uint32_t>(e + 16), directory_end = end_at;
  if (end >= kLocator64Size && at<uint32_t>(e - kLocator64Size) == kLocator64Mark) {
    const std::byte* l = e - kLocator64Size;
    const uint64_t end64_at = at<uint64_t>(l + 8), locator_at = end_at - kLocator64Size;
    std::array<std::byte, kEnd64Size> r;
    if (locator_at < kEnd64Size || end64_at > locator_at - kEnd64Size)
      return bad_input("reading {}: its ZIP64 end record would lie at byte {}, beyond its place before byte {}; the file is damaged", path, end64_at, locator_at);
    INGOT_TRY(zip.bytes_at(end64_at, r));
    if (at<uint32_t>(r.data()) != kEnd64Mark || at<uint64_t>(&r[4]) != locator_at - end64_at - 12)
      return bad_input("reading {}: at byte {} there is no ZIP64 end record that reaches to byte {}; the file is damaged", path, end64_at, locator_at);
    const uint64_t disks64 = uint64_t{at<uint32_t>(&r[16])} + at<uint32_t>(&r[20]) + at<uint32_t>(l + 4);
    const uint64_t here64 = at<uint64_t>(&r[24]), count64 = at<uint64_t>(&r[32]), bytes64 = at<uint64_t>(&r[40]), begin64 = at<uint64_t>(&r[48]);
    if ((here != kFull16 && here != here64) || (count != kFull16 && count != count64) || (bytes != kFull32 && bytes != bytes64) ||
        (begin != kFull32 && begin != begin64))
      return bad_input("reading {}: its two end records disagree: {} records, {} bytes at {}, by ZIP64 {} records, {} bytes at {}; refused, as readers differ in "
                       "which they believe", path, count, bytes, begin, count64, bytes64, begin64);
    if (disks != 2 * uint64_t{kFull16}) disks += disks64;
    else disks = disks64;
    here = here64, count = count64, bytes = bytes64, begin = begin64, directory_end = end64_at;
  }
  if (disks != 0 || here != count) return bad_input("reading {}: it is one part of a ZIP archive of several disks; join the parts first", path);
  if (uint64_t to = 0; !checked_add(begin, bytes, &to) || to != directory_end)
    return bad_input("reading {}: its central directory has {} bytes at byte {}, but the end record lies at byte {}; bytes are missing or were added, copy the "
                     "file again", path, bytes, begin, directory_end);
  if (bytes > kMaxDirectory || count > bytes / kCentralSize)
    return bad_input("reading {}: its end record claims {} records in a central directory of {} bytes; at least {} bytes each are needed, and {} in all accepted",
                     path, count, bytes, kCentralSize, kMaxDirectory);
  INGOT_TRY(zip.read_directory(begin, bytes, count));
  INGOT_TRY(zip.check_places(begin));
  return zip;
}

Status ZipFile::read_directory(uint64_t begin, uint64_t size, uint64_t count) {
  std::vector<std::byte> all(size);
  INGOT_TRY(bytes_at(begin, all));
  directory_hash_ = to_hex(hash128(all));
  const auto damaged = [&](uint64_t i, const std::string& what) {
    return bad_input("reading {}: record {} of {} in its central directory {}; the file is damaged, copy it again", path(), i + 1, count, what);
  };
  entries_.reserve(count);
  ByteReader in(all);
  for (uint64_t i = 0; i < count; ++i) {
    ByteView fixed, name, extra, comment;
    if (!in.view(kCentralSize, &fixed) || at<uint32_t>(fixed.data()) != kCentralMark) return damaged(i, "does not begin where it should");
    const std::byte* f = fixed.data();
    if (!in.view(at<uint16_t>(f + 28), &name) || !in.view(at<uint16_t>(f + 30), &extra) || !in.view(at<uint16_t>(f + 32), &comment))
      return damaged(i, "ends beyond the directory");
    ZipEntry e;
    e.name = as_text(name);
    if (const auto why = bad_record_name(e.name); !why.empty())
      return bad_input("reading {}: the name of its record '{}' {}; refused", path(), e.name.substr(0, 200), why);
    e.flags = at<uint16_t>(f + 8), e.method = at<uint16_t>(f + 10), e.crc = at<uint32_t>(f + 16);
    e.packed = at<uint32_t>(f + 20), e.size = at<uint32_t>(f + 24), e.header = at<uint32_t>(f + 42);
    uint64_t disk = at<uint16_t>(f + 34);
    const bool packed = e.packed == kFull32, unpacked = e.size == kFull32, header = e.header == kFull32;
    // In the format the disk is 4 bytes; nothing stands after it.
    if ((packed || unpacked || header) && !read_zip64(extra, {{&e.size, unpacked}, {&e.packed, packed}, {&e.header, header}}))
      return damaged(i, fmt::format("('{}') has no ZIP64 field for its sizes", e.name.substr(0, 200)));
    if (disk != 0 && disk != kFull16) return damaged(i, "lies on another disk");
    if (e.flags & kEncrypted) return bad_input("reading {}: its record '{}' is encrypted; decrypt the archive first", path(), e.name.substr(0, 200));
    if (e.flags & ~kKnownFlags)
      return bad_input("reading {}: its record '{}' has the ZIP flags 0x{:04x}, which torch and numpy never set and by which scanners pass over a record; refused",
                       path(), e.name.substr(0, 200), e.flags);
    if (e.stored() && e.packed != e.size) return damaged(i, fmt::format("('{}') is stored, but has {} bytes and {} unpacked", e.name.substr(0, 200), e.packed, e.size));
    if (e.method != 0 && e.method != 8)
      return bad_input("reading {}: its record '{}' is compressed by ZIP method {}; only 0 (stored) and 8 (deflate) are read", path(), e.name.substr(0, 200), e.method);
    entries_.push_back(std::move(e));
  }
  if (in.remaining()) return bad_input("reading {}: {} bytes of its central directory are no record's; the file is damaged", path(), in.remaining());
  return {};
}

// Records in their order may not run into the next one, the last not into the directory.
Status ZipFile::check_places(uint64_t directory) {
  std::sort(entries_.begin(), entries_.end(), [](const ZipEntry& a, const ZipEntry& b) { return a.header < b.header; });
  for (size_t i = 0; i < entries_.size(); ++i) {
    ZipEntry& e = entries_[i];
    e.limit = i + 1 < entries_.size() ? entries_[i + 1].header : directory;
    if (uint64_t end = 0; !checked_add(e.header, kLocalSize + e.name.size(), &end) || !checked_add(end, e.packed, &end) || end > e.limit)
      return bad_input("reading {}: its record '{}' has {} bytes at byte {}, but {} begins at byte {}: records overlap, or the file is truncated; refused", path(),
                       e.name.substr(0, 200), e.packed, e.header, e.limit == directory ? "the central directory" : "the next", e.limit);
  }
  for (size_t i = 0; i < entries_.size(); ++i)
    if (!by_name_.emplace(entries_[i].name, i).second)
      return bad_input("reading {}: two of its records are called '{}'; refused, as readers differ in which they take", path(), entries_[i].name.substr(0, 200));
  return {};
}

Result<uint64_t> ZipFile::check_local(const ZipEntry& e, ByteView bytes) const {
  const auto contradicts = [&](const std::string& what) {
    return bad_input("reading {}: the local header of its record '{}' (byte {}) contradicts the central directory: {}; refused, as readers differ in which they "
                     "believe", path(), e.name.substr(0, 200), e.header, what);
  };
  const std::byte* l = bytes.data();
  if (at<uint32_t>(l) != kLocalMark) return contradicts("there is no local header");
  const uint16_t flags = at<uint16_t>(l + 6), method = at<uint16_t>(l + 8), name = at<uint16_t>(l + 26), extra = at<uint16_t>(l + 28);
  if (name != e.name.size() || as_text(bytes.subspan(kLocalSize, name)) != e.name) return contradicts("it has another name");
  if (flags != e.flags) return contradicts(fmt::format("flags 0x{:04x} and 0x{:04x}", flags, e.flags));
  if (method != e.method) return contradicts(fmt::format("method {} and {}", method, e.method));
  const uint64_t header = kLocalSize + name + extra;
  if (header > e.limit - e.header || e.packed > e.limit - e.header - header) return contradicts(fmt::format("its data would end beyond byte {}", e.limit));
  const bool later = flags & kSizesBehind;  // sizes stand behind the data, and here zeros, if not the truth
  const uint32_t crc = at<uint32_t>(l + 14), packed = at<uint32_t>(l + 18), size = at<uint32_t>(l + 22);
  if (crc != e.crc && !(later && crc == 0)) return contradicts("another CRC-32");
  const auto agrees = [&](uint32_t said, uint64_t truth) { return said == truth || (later && said == 0) || said == kFull32; };
  if (!agrees(packed, e.packed) || !agrees(size, e.size))
    return contradicts(fmt::format("{} bytes ({} unpacked), not {} ({})", packed, size, e.packed, e.size));
  if ((packed == kFull32 || size == kFull32) && bytes.size() >= header) {
    uint64_t size64 = e.size, packed64 = e.packed;
    const bool there = read_zip64(bytes.subspan(kLocalSize + name, extra), {{&size64, size == kFull32}, {&packed64, packed == kFull32}});
    const bool zeros = later && size64 == 0 && packed64 == 0;
    if (!later && !there && (e.size != kFull32 || e.packed != kFull32)) return contradicts("no ZIP64 field for its sizes");
    if (there && !zeros && (size64 != e.size || packed64 != e.packed)) return contradicts(fmt::format("{} bytes ({} unpacked) by ZIP64", packed64, size64));
  }
  return header;
}

Result<std::vector<uint64_t>> ZipFile::data_offsets(const std::vector<const ZipEntry*>& wanted) const {
  struct Batch {
    uint64_t begin, end;
    std::vector<size_t> which;
  };
  std::vector<size_t> order(wanted.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a]->header < wanted[b]->header; });
  const Capabilities store = file_.file->capabilities();
  std::vector<Batch> batches;
  for (size_t i : order) {
    const ZipEntry& e = *wanted[i];
    // Its extra field is torch's padding: it is read only where sizes stand in it, and these come first.
    const uint64_t end = std::min(e.limit, e.header + kLocalSize + e.name.size() + (e.size >= kFull32 || e.packed >= kFull32 ? kFull16 : 64));
    if (batches.empty() || e.header - std::min(e.header, batches.back().end) > store.request_bytes || end - batches.back().begin > kSpan)
      batches.push_back({e.header, end, {}});
    batches.back().end = std::max(batches.back().end, end);
    batches.back().which.push_back(i);
  }
  std::vector<uint64_t> offsets(wanted.size());
  const auto threads = static_cast<int>(std::min<uint64_t>(batches.size() * store.request_bytes >> 20, 1 << 10));
  INGOT_TRY(run_each(std::min(store.requests, threads), batches.size(), [&](size_t b) -> Status {
    std::vector<std::byte> bytes(batches[b].end - batches[b].begin);
    INGOT_TRY(bytes_at(batches[b].begin, bytes));
    for (size_t i : batches[b].which) {
      const ZipEntry& e = *wanted[i];
      INGOT_ASSIGN(const uint64_t header, check_local(e, ByteView(bytes).subspan(e.header - batches[b].begin)));
      offsets[i] = e.header + header;
    }
    return {};
  }));
  return offsets;
}

Result<std::string> ZipFile::read(const ZipEntry& e, uint64_t limit) const {
  if (e.size > limit)
    return bad_input("reading {}: its record '{}' has {} bytes, more than the {} that are accepted of it", path(), e.name.substr(0, 200), e.size, limit);
  INGOT_ASSIGN(const auto where, data_offsets({&e}));
  std::shared_ptr<const ReadFile> unpacked;  // whose claims are held against deflate before anything is allocated
  if (!e.stored()) {
    INGOT_ASSIGN(unpacked, make_inflated_file(file_.file, path(), e, where[0]));
  }
  std::string out(e.size, '\0');
  const MutByteView all{reinterpret_cast<std::byte*>(out.data()), out.size()};
  if (unpacked) {
    INGOT_TRY(unpacked->read(0, all));
    return out;
  }
  INGOT_TRY(bytes_at(where[0], all));
  const uint32_t crc = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(out.data()), out.size()));
  // torch writes the size in its place where it was told not to compute one.
  if (crc != e.crc && e.crc != 0 && e.crc != static_cast<uint32_t>(e.size))
    return bad_input("reading {}: the CRC-32 of its record '{}' is {:08x}, by the archive {:08x}; the file is damaged, copy it again", path(), e.name.substr(0, 200), crc,
                     e.crc);
  return out;
}

}  // namespace ingot
