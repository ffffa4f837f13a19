#include "formats/inflated_file.h"

#include <zlib.h>

#include <algorithm>
#include <list>
#include <mutex>

#include "base/memory.h"
#include "formats/file_ranges.h"

namespace ingot {
namespace {

constexpr uint64_t kDeflateRatio = 1032;  // no deflate stream unpacks to more
constexpr size_t kPiece = 64 << 10;       // read and unpacked at a time
constexpr size_t kCursors = 4;            // tiles are asked for in order, but by several threads

// A place in the stream, with what comes before it.
struct Cursor {
  Cursor() : in(kPiece) {}
  ~Cursor() { inflateEnd(&z); }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  z_stream z{};
  std::vector<std::byte> in;
  uint64_t read = 0, done = 0;  // bytes, packed and unpacked
  uLong crc = 0;
  bool ended = false;
};

class InflatedFile final : public MadeFile {
 public:
  InflatedFile(std::shared_ptr<const ReadFile> archive, std::string path, const ZipEntry& e, uint64_t offset)
      : archive_(std::move(archive)), path_(std::move(path)), entry_(e), offset_(offset) {}

  uint64_t size() const override { return entry_.size; }
  const std::string& path() const override { return archive_->path(); }
  std::string identity() const override { return fmt::format("{}|inflated at {}", archive_->identity(), offset_); }
  std::string stamp() const override { return archive_->stamp(); }
  Status check_unchanged() const override { return archive_->check_unchanged(); }
  Capabilities capabilities() const override { return archive_->capabilities(); }

  Status read(uint64_t offset, MutByteView out) const override {
    if (out.empty()) return {};
    if (uint64_t end = 0; !checked_add(offset, out.size(), &end) || end > entry_.size)
      return bad_input("reading {}: its record '{}' ends before byte {}", path_, entry_.name.substr(0, 200), offset);
    return within_memory("reading " + path_, [&]() -> Status {
      const std::lock_guard lock(mutex_);
      auto best = cursors_.end();
      for (auto c = cursors_.begin(); c != cursors_.end(); ++c)
        if (c->done <= offset && (best == cursors_.end() || c->done > best->done)) best = c;
      if (best == cursors_.end()) {
        if (cursors_.size() == kCursors) cursors_.pop_back();
        best = cursors_.emplace(cursors_.begin());
        if (inflateInit2(&best->z, -MAX_WBITS) != Z_OK) {
          cursors_.erase(best);
          return failed("unpacking '{}' of {}: zlib cannot begin", entry_.name.substr(0, 200), path_);
        }
      } else {
        cursors_.splice(cursors_.begin(), cursors_, best);
      }
      Status s = go_on(&*best, offset, out);
      if (!s.ok() || best->ended) cursors_.erase(best);
      return s;
    });
  }

 private:
  Status go_on(Cursor* c, uint64_t offset, MutByteView out) const {
    std::vector<std::byte> passed(c->done < offset ? kPiece : 0);
    while (c->done < offset) INGOT_TRY(unpack(c, MutByteView(passed).first(std::min<uint64_t>(passed.size(), offset - c->done))));
    for (size_t at = 0; at < out.size(); at += kPiece) INGOT_TRY(unpack(c, out.subspan(at, std::min(kPiece, out.size() - at))));
    if (c->done < entry_.size) return {};
    std::byte more;
    INGOT_TRY(unpack(c, {&more, 1}));
    const auto told = entry_.crc;
    // torch writes the size in its place where it was told not to compute one.
    if (c->crc != told && told != 0 && told != static_cast<uint32_t>(entry_.size))
      return bad_input("reading {}: the CRC-32 of its record '{}' is {:08x}, by the archive {:08x}; the file is damaged, copy it again", path_, entry_.name.substr(0, 200), c->crc, told);
    return {};
  }

  // The next bytes; after the last, that there are no more.
  Status unpack(Cursor* c, MutByteView out) const {
    const bool at_end = c->done == entry_.size;
    c->z.next_out = reinterpret_cast<Bytef*>(out.data()), c->z.avail_out = static_cast<uInt>(out.size());
    while (!c->ended && c->z.avail_out > 0) {
      if (c->z.avail_in == 0 && c->read < entry_.packed) {
        const MutByteView piece = MutByteView(c->in).first(std::min<uint64_t>(kPiece, entry_.packed - c->read));
        INGOT_TRY(archive_->read(offset_ + c->read, piece));
        c->read += piece.size();
        c->z.next_in = reinterpret_cast<Bytef*>(piece.data()), c->z.avail_in = static_cast<uInt>(piece.size());
      }
      const int rc = inflate(&c->z, Z_NO_FLUSH);
      c->ended = rc == Z_STREAM_END;
      if (rc != Z_OK && rc != Z_STREAM_END) return not_exact();
    }
    const uint64_t made = out.size() - c->z.avail_out;
    if (made != (at_end ? 0 : out.size()) || (at_end && (c->z.avail_in > 0 || c->read < entry_.packed))) return not_exact();
    c->crc = crc32(c->crc, reinterpret_cast<const Bytef*>(out.data()), static_cast<uInt>(made));
    c->done += made;
    return {};
  }
  Error not_exact() const {
    return bad_input("reading {}: its record '{}' does not unpack to exactly {} bytes; the file is damaged, copy it again", path_, entry_.name.substr(0, 200), entry_.size);
  }

  std::shared_ptr<const ReadFile> archive_;
  std::string path_;
  ZipEntry entry_;
  uint64_t offset_;
  mutable std::mutex mutex_;
  mutable std::list<Cursor> cursors_;  // the last used first
};

}  // namespace

Result<std::shared_ptr<const ReadFile>> make_inflated_file(std::shared_ptr<const ReadFile> archive, const std::string& path, const ZipEntry& e, uint64_t offset) {
  if (e.size / kDeflateRatio > e.packed)
    return bad_input("reading {}: its record '{}' claims to unpack from {} bytes to {}, which deflate cannot; refused", path, e.name.substr(0, 200), e.packed, e.size);
  return std::shared_ptr<const ReadFile>(std::make_shared<InflatedFile>(std::move(archive), path, e, offset));
}

}  // namespace ingot
