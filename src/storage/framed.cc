#include "storage/framed.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kMagic[] = "INGOTFRM";
constexpr uint64_t kRowBytes = 24, kFooterBytes = 48;
constexpr int kLevel = 1;

// Where a frame lies. Of what it holds the bytes of each place in an element of `width` bytes stand together; 0: it lies there as it is.
struct Row {
  uint64_t offset = 0;
  uint32_t size = 0;
  uint32_t width = 0;
  uint64_t sum = 0;  // the low half of XXH3-128 of the frame as it lies there
};

uint64_t frame_count(uint64_t size) { return (size + kFrameBytes - 1) / kFrameBytes; }

// Exponents stand beside exponents, and mantissas, which do not compress, beside mantissas. A rest of less than an element stays at the end.
void group(ByteView from, size_t width, std::byte* to) {
  const size_t n = from.size() / width;
  for (size_t b = 0; b < width; ++b)
    for (size_t i = 0; i < n; ++i) to[b * n + i] = from[i * width + b];
  std::copy(from.begin() + static_cast<ptrdiff_t>(n * width), from.end(), to + n * width);
}

void ungroup(ByteView from, size_t width, std::byte* to) {
  const size_t n = from.size() / width;
  for (size_t b = 0; b < width; ++b)
    for (size_t i = 0; i < n; ++i) to[i * width + b] = from[b * n + i];
  std::copy(from.begin() + static_cast<ptrdiff_t>(n * width), from.end(), to + n * width);
}

struct Codec {
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> encoder{nullptr, &ZSTD_freeCCtx};
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> decoder{nullptr, &ZSTD_freeDCtx};
  std::vector<std::byte> grouped, packed;
};
// Of the threads that write and read, which are few and work on many frames.
Codec& codec() {
  thread_local Codec c;
  return c;
}

// Bytes that `from` takes when it is packed into c.packed; 0 where zstd fails.
size_t pack(Codec& c, ByteView from, size_t width) {
  if (!c.encoder) c.encoder.reset(ZSTD_createCCtx());
  if (!c.encoder) return 0;
  if (width > 1) {
    c.grouped.resize(from.size());
    group(from, width, c.grouped.data());
    from = c.grouped;
  }
  c.packed.resize(ZSTD_compressBound(from.size()));
  const size_t n = ZSTD_compressCCtx(c.encoder.get(), c.packed.data(), c.packed.size(), from.data(), from.size(), kLevel);
  return ZSTD_isError(n) ? 0 : n;
}

// The width of elements by which a frame is smallest, found on its beginning. What types a file has is not this layer's to know.
size_t best_width(Codec& c, ByteView frame) {
  size_t best = 1, least = SIZE_MAX;
  for (const size_t width : {size_t{1}, size_t{2}, size_t{4}})
    if (const size_t n = pack(c, frame.first(std::min<size_t>(frame.size(), 64 << 10)), width); n && n < least) least = n, best = width;
  return best;
}

struct Footer {
  uint64_t size = 0, index = 0;
  std::vector<Row> rows;
};

std::string index_text(const Footer& f) {
  ByteWriter w;
  for (const Row& r : f.rows) {
    w.write<uint64_t>(r.offset);
    w.write<uint32_t>(r.size);
    w.write<uint32_t>(r.width);
    w.write<uint64_t>(r.sum);
  }
  w.write<uint64_t>(f.size);
  w.write<uint64_t>(f.index);
  w.write<uint32_t>(kFrameBytes);
  w.write<uint32_t>(static_cast<uint32_t>(f.rows.size()));
  const Hash128 h = hash128(as_bytes(w.str()));
  w.write<uint64_t>(h.lo);
  w.write<uint64_t>(h.hi);
  w.append(std::string_view(kMagic, 8));
  return w.str();
}

template <class T>
T at(ByteView bytes, uint64_t offset) {
  T x;
  std::memcpy(&x, bytes.data() + offset, sizeof x);
  return x;
}

Result<Footer> read_footer(const ReadFile& file) {
  const auto damaged = [&](std::string_view what) { return bad_input("reading {}: {}; it is torn or damaged", file.path(), what); };
  if (file.size() < kFooterBytes) return damaged("it is too short for an index of frames");
  std::vector<std::byte> end(kFooterBytes);
  INGOT_TRY(file.read(file.size() - kFooterBytes, end));
  if (std::memcmp(end.data() + 40, kMagic, 8) != 0) return damaged("it does not end with an index of frames");
  Footer f;
  f.size = at<uint64_t>(end, 0), f.index = at<uint64_t>(end, 8);
  const uint64_t count = at<uint32_t>(end, 20);
  if (at<uint32_t>(end, 16) != kFrameBytes || f.size > uint64_t{UINT32_MAX} * kFrameBytes || count != frame_count(f.size) || f.index > file.size() ||
      file.size() - f.index != count * kRowBytes + kFooterBytes)
    return damaged(fmt::format("its index tells of {} frames for {} bytes", count, f.size));
  std::vector<std::byte> index(count * kRowBytes + kFooterBytes);
  INGOT_TRY(file.read(f.index, index));
  if (const Hash128 h = hash128(ByteView(index).first(index.size() - 24)); h.lo != at<uint64_t>(index, index.size() - 24) || h.hi != at<uint64_t>(index, index.size() - 16))
    return damaged("the hash of its index differs");
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t row = i * kRowBytes;
    const Row r{at<uint64_t>(index, row), at<uint32_t>(index, row + 8), at<uint32_t>(index, row + 12), at<uint64_t>(index, row + 16)};
    if (r.offset > f.index || r.size > f.index - r.offset || r.width > 8) return damaged(fmt::format("frame {} lies beyond its end", i));
    f.rows.push_back(r);
  }
  return f;
}

// A whole frame. `what` begins the message where it is not what its row tells.
Status unpack_frame(const Row& r, const std::string& what, const std::function<Status(uint64_t at, MutByteView into)>& read, MutByteView out) {
  const auto damaged = [&](std::string_view how) { return bad_input("{} at byte {} {}", what, r.offset, how); };
  if (!r.width) {
    if (r.size != out.size()) return damaged("has another size than its index tells");
    INGOT_TRY(read(r.offset, out));
    return hash128(out).lo == r.sum ? Status() : damaged("has other bytes than its index tells");
  }
  Codec& c = codec();
  if (!c.decoder) c.decoder.reset(ZSTD_createDCtx());
  if (!c.decoder) return failed("{}: no memory to decompress it", what);
  c.packed.resize(r.size);
  INGOT_TRY(read(r.offset, c.packed));
  if (hash128(c.packed).lo != r.sum) return damaged("has other bytes than its index tells");
  const bool plain = r.width == 1;
  if (!plain) c.grouped.resize(out.size());
  std::byte* to = plain ? out.data() : c.grouped.data();
  const size_t n = ZSTD_decompressDCtx(c.decoder.get(), to, out.size(), c.packed.data(), c.packed.size());
  if (ZSTD_isError(n) || n != out.size()) return damaged("does not decompress");
  if (!plain) ungroup(c.grouped, r.width, out.data());
  return {};
}

class FramedRead : public ForwardingRead {
 public:
  FramedRead(std::unique_ptr<ReadFile> file, Footer footer) : ForwardingRead(std::move(file)), footer_(std::move(footer)) {}
  uint64_t size() const override { return footer_.size; }
  Status read(uint64_t offset, MutByteView out) const override {
    if (offset > footer_.size || out.size() > footer_.size - offset) return bad_input("reading {}: it ends before byte {}", path(), offset + out.size());
    while (!out.empty()) {
      const uint64_t frame = offset / kFrameBytes, from = offset % kFrameBytes, bytes = std::min(kFrameBytes, footer_.size - frame * kFrameBytes);
      const size_t n = std::min<uint64_t>(out.size(), bytes - from);
      if (n == bytes) {
        INGOT_TRY(unpack(frame, out.first(n)));
      } else {
        std::vector<std::byte> whole(bytes);
        INGOT_TRY(unpack(frame, whole));
        std::memcpy(out.data(), whole.data() + from, n);
      }
      offset += n, out = out.subspan(n);
    }
    return {};
  }

 private:
  Status unpack(uint64_t frame, MutByteView out) const {
    return unpack_frame(footer_.rows[frame], fmt::format("reading {}: frame {}", path(), frame), [&](uint64_t at, MutByteView v) { return ForwardingRead::read(at, v); }, out);
  }
  const Footer footer_;
};

class FramedWrite : public WriteFile {
 public:
  // `ended` hears how many bytes it takes.
  FramedWrite(std::unique_ptr<WriteFile> file, std::string path, uint64_t size, bool in_order, std::function<void(uint64_t)> ended)
      : file_(std::move(file)), path_(std::move(path)), in_order_(in_order), ended_(std::move(ended)), left_(frame_count(size)) {
    footer_.size = size;
    footer_.rows.resize(left_);
  }
  // The file of no bytes has nothing that would end it.
  Status begin() { return left_ ? Status() : end(); }

  Status write(uint64_t offset, ByteView bytes) override {
    if (offset > footer_.size || bytes.size() > footer_.size - offset) return failed("writing {}: bytes {} to {} lie beyond its end", path_, offset, offset + bytes.size());
    while (!bytes.empty()) {
      const uint64_t frame = offset / kFrameBytes, from = offset % kFrameBytes, size = std::min(kFrameBytes, footer_.size - frame * kFrameBytes);
      const ByteView piece = bytes.first(std::min<uint64_t>(bytes.size(), size - from));
      INGOT_TRY(piece.size() == size ? put(frame, piece) : add(frame, from, piece, size));
      offset += piece.size(), bytes = bytes.subspan(piece.size());
    }
    return {};
  }
  // What has been written: from the store, or of a frame that is not full yet from memory.
  Status read_back(uint64_t offset, MutByteView out) override {
    if (offset > footer_.size || out.size() > footer_.size - offset) return failed("reading back {}: bytes {} to {} lie beyond its end", path_, offset, offset + out.size());
    std::vector<std::byte> whole;
    while (!out.empty()) {
      const uint64_t frame = offset / kFrameBytes, from = offset % kFrameBytes, size = std::min(kFrameBytes, footer_.size - frame * kFrameBytes);
      const size_t n = std::min<uint64_t>(out.size(), size - from);
      Row row;
      {
        std::lock_guard lock(mutex_);
        row = footer_.rows[frame];
        if (const auto p = pending_.find(frame); p != pending_.end()) whole = p->second.bytes;
        else if (!row.size) return failed("reading back {}: byte {} has not been written", path_, offset);
      }
      if (row.size) {
        whole.resize(size);
        INGOT_TRY(unpack_frame(row, fmt::format("reading back {}: frame {}", path_, frame), [&](uint64_t at, MutByteView v) { return file_->read_back(at, v); }, whole));
      }
      std::memcpy(out.data(), whole.data() + from, n);
      offset += n, out = out.subspan(n);
    }
    return {};
  }
  Status truncate(uint64_t size) override { return size == footer_.size ? Status() : failed("cutting {}: a compressed file keeps its size", path_); }
  Status sync() override { return file_->sync(); }
  Result<uint64_t> size() override { return footer_.size; }
  Status complete() override {
    if (left_) return failed("writing {}: {} of its {} frames are missing", path_, left_, footer_.rows.size());
    return file_->complete();
  }

 private:
  struct Pending {
    std::vector<std::byte> bytes;
    uint64_t filled = 0;
  };

  Status add(uint64_t frame, uint64_t from, ByteView piece, uint64_t size) {
    std::vector<std::byte> whole;
    {
      std::lock_guard lock(mutex_);
      Pending& p = pending_[frame];
      p.bytes.resize(size);
      std::memcpy(p.bytes.data() + from, piece.data(), piece.size());
      p.filled += piece.size();
      if (p.filled < size) return {};
      whole = std::move(p.bytes);
      pending_.erase(frame);
    }
    return put(frame, whole);
  }

  Status put(uint64_t frame, ByteView bytes) {
    Codec& c = codec();
    const size_t width = best_width(c, bytes), n = pack(c, bytes, width);
    const bool smaller = n && n < bytes.size();
    const ByteView packed = smaller ? ByteView(c.packed).first(n) : bytes;
    const uint64_t sum = hash128(packed).lo;
    std::unique_lock lock(mutex_);
    Row& r = footer_.rows[frame];
    r.offset = std::exchange(footer_.index, footer_.index + packed.size());
    r.size = static_cast<uint32_t>(packed.size()), r.width = smaller ? static_cast<uint32_t>(width) : 0, r.sum = sum;
    const uint64_t offset = r.offset;
    if (!in_order_) lock.unlock();
    INGOT_TRY(file_->write(offset, packed));
    file_->start_flush(offset, packed.size());
    if (!in_order_) lock.lock();
    return --left_ ? Status() : end();
  }
  Status end() {
    const std::string index = index_text(footer_);
    INGOT_TRY(file_->write(footer_.index, as_bytes(index)));
    ended_(footer_.index + index.size());
    return {};
  }

  const std::unique_ptr<WriteFile> file_;
  const std::string path_;
  const bool in_order_;  // the store appends
  const std::function<void(uint64_t)> ended_;
  std::mutex mutex_;
  Footer footer_;  // index: where the next frame goes
  uint64_t left_;
  std::map<uint64_t, Pending> pending_;
};

// A file that is there whole already: a second name for another's bytes, or one that is only to be completed.
class FramedWhole : public ForwardingWrite {
 public:
  FramedWhole(std::unique_ptr<WriteFile> file, uint64_t size) : ForwardingWrite(std::move(file)), size_(size) {}
  Status write(uint64_t, ByteView) override { return failed("a compressed file is not changed"); }
  Status truncate(uint64_t) override { return failed("a compressed file is not changed"); }
  Result<uint64_t> size() override { return size_; }

 private:
  uint64_t size_;
};

class Framed : public FramedStore {
 public:
  Framed(Store& beneath, std::set<std::string> compressed) : FramedStore(beneath), store_(beneath), compressed_(std::move(compressed)) {}

  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    INGOT_ASSIGN(const bool frames, framed(path));
    if (!frames) return store_.open(path);
    INGOT_ASSIGN(auto file, store_.open(path + kFramesSuffix));
    INGOT_ASSIGN(Footer footer, read_footer(*file));
    return std::unique_ptr<ReadFile>(std::make_unique<FramedRead>(std::move(file), std::move(footer)));
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    if (!is_compressed(path)) return store_.create(path, size, resume);
    if (resume) {
      if (const auto there = stat(path); there.ok() && *there) {
        INGOT_ASSIGN(auto file, store_.create(path + kFramesSuffix, 0, true));
        return std::unique_ptr<WriteFile>(std::make_unique<FramedWhole>(std::move(file), (*there)->size));
      }
    }
    INGOT_ASSIGN(auto file, store_.create(path + kFramesSuffix, 0, false));
    auto made = std::make_unique<FramedWrite>(std::move(file), path, size, capabilities().mode == WriteMode::kSequential, [this, name = file_name(path)](uint64_t bytes) {
      std::lock_guard lock(mutex_);
      stored_[name] = bytes;
    });
    INGOT_TRY(made->begin());
    return std::unique_ptr<WriteFile>(std::move(made));
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override {
    INGOT_ASSIGN(const bool frames, framed(path));
    if (!frames) return store_.change(path);
    INGOT_ASSIGN(const auto there, stat(path));
    INGOT_ASSIGN(auto file, store_.change(path + kFramesSuffix));
    return std::unique_ptr<WriteFile>(std::make_unique<FramedWhole>(std::move(file), there ? there->size : 0));
  }
  Result<std::optional<Stat>> stat(const std::string& path) override {
    INGOT_ASSIGN(auto there, store_.stat(path));
    if (there) return there;
    INGOT_ASSIGN(there, store_.stat(path + kFramesSuffix));
    if (!there || there->kind != Stat::Kind::kFile) return std::optional<Stat>();
    INGOT_ASSIGN(const auto file, store_.open(path + kFramesSuffix));
    INGOT_ASSIGN(const Footer footer, read_footer(*file));
    there->size = footer.size;
    return there;
  }
  Result<std::vector<Entry>> list(const std::string& directory) override {
    INGOT_ASSIGN(auto entries, store_.list(directory));
    for (Entry& e : entries)
      if (const std::string_view name = e.name; !e.directory && name.ends_with(kFramesSuffix)) e.name.resize(name.size() - std::strlen(kFramesSuffix));
    return entries;
  }
  Result<bool> link(const std::string& from, const std::string& to) override {
    return is_compressed(to) ? store_.link(from + kFramesSuffix, to + kFramesSuffix) : store_.link(from, to);
  }
  Status remove(const std::string& path) override {
    INGOT_TRY(store_.remove(path));
    return is_compressed(path) ? store_.remove(path + kFramesSuffix) : Status();
  }
  Status abandon(const std::string& path) override { return store_.abandon(is_compressed(path) ? path + kFramesSuffix : path); }

  uint64_t stored(const std::string& name) const override {
    std::lock_guard lock(mutex_);
    const auto it = stored_.find(name);
    return it == stored_.end() ? 0 : it->second;
  }

 private:
  bool is_compressed(const std::string& path) const { return compressed_.contains(file_name(path)); }
  // Whether a file lies there as frames alone.
  Result<bool> framed(const std::string& path) {
    INGOT_ASSIGN(const auto plain, store_.stat(path));
    if (plain) return false;
    INGOT_ASSIGN(const auto frames, store_.stat(path + kFramesSuffix));
    return frames && frames->kind == Stat::Kind::kFile;
  }

  Store& store_;
  const std::set<std::string> compressed_;
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> stored_;
};

}  // namespace

std::unique_ptr<FramedStore> make_framed_store(Store& beneath, std::set<std::string> compressed) { return std::make_unique<Framed>(beneath, std::move(compressed)); }

}  // namespace ingot
