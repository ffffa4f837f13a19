#include "formats/file_pieces.h"

#include <algorithm>
#include <set>

#include "formats/file_ranges.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

class PiecesFile final : public ReadFile {
 public:
  PiecesFile(std::string path, std::vector<FilePiece> pieces) : path_(std::move(path)), pieces_(std::move(pieces)) {
    Hasher128 h;
    const ReadFile* before = nullptr;
    for (const FilePiece& p : pieces_) {
      if (p.file.get() != before) h.update(as_bytes(p.file->identity() + "|")), before = p.file.get();
      if (seen_.insert(before).second) files_.push_back(p.file);
      const uint64_t place[] = {p.offset, p.size};
      h.update({reinterpret_cast<const std::byte*>(place), sizeof place});
      ends_.push_back(size_ += p.size);
    }
    identity_ = "pieces:" + to_hex(h.digest());
  }
  uint64_t size() const override { return size_; }
  const std::string& path() const override { return path_; }
  std::string identity() const override { return identity_; }
  std::string stamp() const override {
    std::string s;
    for (const auto& f : files_) s += f->stamp() + "|";
    return s;
  }
  Status check_unchanged() const override {
    for (const auto& f : files_) INGOT_TRY(f->check_unchanged());
    return {};
  }
  Capabilities capabilities() const override { return files_.empty() ? Capabilities() : files_[0]->capabilities(); }

  Status read(uint64_t offset, MutByteView out) const override {
    if (uint64_t end = 0; !checked_add(offset, out.size(), &end) || end > size_)
      return bad_input("reading {}: it has {} bytes, and {} at byte {} were asked for", path_, size_, out.size(), offset);
    Status status;
    each(offset, out.size(), [&](const FilePiece& p, uint64_t within, uint64_t n) {
      status = p.file->read(p.offset + within, out.first(n));
      out = out.subspan(n);
      return status.ok();
    });
    return status;
  }
  bool ranges(uint64_t offset, uint64_t size, std::vector<FileRange>* out) const {
    if (uint64_t end = 0; !checked_add(offset, size, &end) || end > size_) return false;
    bool all = true;
    each(offset, size, [&](const FilePiece& p, uint64_t within, uint64_t n) { return all = true_ranges(*p.file, p.offset + within, n, out); });
    return all;
  }

 private:
  // f(piece, first byte within it, bytes) for what lies there, until it says false.
  template <class F>
  void each(uint64_t offset, uint64_t size, F f) const {
    for (size_t i = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), offset) - ends_.begin()); size; ++i) {
      const FilePiece& p = pieces_[i];
      const uint64_t within = offset - (ends_[i] - p.size), n = std::min(size, p.size - within);
      if (n && !f(p, within, n)) return;
      offset += n, size -= n;
    }
  }

  std::string path_, identity_;
  std::vector<FilePiece> pieces_;
  std::vector<uint64_t> ends_;  // of each piece, counted from the first
  uint64_t size_ = 0;
  std::set<const ReadFile*> seen_;
  std::vector<std::shared_ptr<const ReadFile>> files_;  // each once
};

class FlatFile final : public MadeFile {
 public:
  explicit FlatFile(std::shared_ptr<const Source> flat) : flat_(std::move(flat)), item_(static_cast<uint64_t>(info(flat_->spec().type).bytes)) {}
  uint64_t size() const override { return bytes_of(flat_->spec()); }
  const std::string& path() const override { return file() ? file()->path() : none_; }
  std::string identity() const override { return flat_->describe(); }
  std::string stamp() const override { return file() ? file()->stamp() : ""; }
  Status check_unchanged() const override { return file() ? file()->check_unchanged() : Status(); }
  Capabilities capabilities() const override { return file() ? file()->capabilities() : Capabilities(); }
  Status read(uint64_t offset, MutByteView out) const override {
    if (offset % item_ || out.size() % item_) return failed("reading {}: {} bytes at byte {} are no whole elements of {}", path(), out.size(), offset, item_);
    Region r{{static_cast<int64_t>(offset / item_)}, {static_cast<int64_t>(out.size() / item_)}};
    INGOT_TRY(check_region(*flat_, r));
    auto read = flat_->read(r, out);
    return read.ok() ? Status() : Status(read.take_error());
  }

 private:
  const ReadFile* file() const { return flat_->file(); }  // null: it lies in memory

  std::shared_ptr<const Source> flat_;
  uint64_t item_;
  std::string none_;
};

}  // namespace

bool true_ranges(const ReadFile& file, uint64_t offset, uint64_t size, std::vector<FileRange>* out) {
  if (const auto* pieces = dynamic_cast<const PiecesFile*>(&file)) return pieces->ranges(offset, size, out);
  if (dynamic_cast<const MadeFile*>(&file)) return false;
  out->push_back({&file, offset, size});
  return true;
}

std::shared_ptr<const ReadFile> make_flat_file(std::shared_ptr<const Source> flat) { return std::make_shared<FlatFile>(std::move(flat)); }

std::shared_ptr<const ReadFile> make_pieces_file(std::string path, std::vector<FilePiece> pieces) {
  return std::make_shared<PiecesFile>(std::move(path), std::move(pieces));
}

}  // namespace ingot
