#include "formats/file_tensor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "formats/file_ranges.h"

namespace ingot {
namespace {

// Short strided runs (a few columns of a wide matrix) are read as one span where that costs less than a call for each: where the gap is less than what a
// request costs. On a local file system 16 KiB take about as long to copy as a system call takes to make.
constexpr uint64_t kSpan = 256 << 10;
// A request of so little is a system call: there no more than half of a span is read in vain. The tiles of a transposed matrix are such columns, and each
// would read the whole of it.
constexpr uint64_t kCheapRequest = 64 << 10;

struct Run {
  uint64_t from, to, size;  // bytes: within the tensor, within the output
};

class FileTensor final : public Source, public InFiles {
 public:
  FileTensor(std::shared_ptr<const SourceFile> source, std::string name, uint64_t offset, TensorSpec spec)
      : source_(std::move(source)), name_(std::move(name)), offset_(offset), spec_(spec), gap_(source_->file->capabilities().request_bytes),
        span_(std::max(kSpan, 2 * gap_)) {}

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    // Not its path: ranks and reruns may spell it in another way.
    return fmt::format("file:{}|{}@{}", source_->file->identity(), source_->header_hash, offset_);
  }
  const ReadFile* file() const override { return source_->file.get(); }
  std::optional<uint64_t> offset() const override { return offset_; }
  uint64_t workspace(const Region& region) const override {
    int64_t first = 0;
    return contiguous_in(Region::all(spec_.shape), region, &first) ? 0 : std::min(span_, bytes_of(spec_));
  }

  void trace(Origin* o) const override { o->tensor = name_, o->file = source_->path; }
  bool ranges(std::vector<FileRange>* out) const override { return true_ranges(*source_->file, offset_, bytes_of(spec_), out); }

  Result<uint64_t> read(const Region& region, MutByteView out) const override {
    if (region.elements() == 0) return 0;
    const Region whole = Region::all(spec_.shape);
    int64_t first = 0;
    uint64_t read = 0;
    if (contiguous_in(whole, region, &first)) {
      INGOT_TRY(fetch(bytes_of(spec_.type, first), out.first(bytes_of(spec_.type, region.elements())), &read));
      return read;
    }
    std::vector<Run> batch;
    uint64_t wanted = 0;  // of the batch
    Status status;
    for_each_run(whole, region, [&](int64_t at, int64_t to, int64_t n) {
      if (!status.ok()) return;
      const Run r{bytes_of(spec_.type, at), bytes_of(spec_.type, to), bytes_of(spec_.type, n)};
      if (!batch.empty()) {
        const uint64_t end = batch.back().from + batch.back().size, span = r.from + r.size - batch.front().from;
        if (r.from - end > gap_ || span > span_ || (gap_ <= kCheapRequest && span > 2 * (wanted + r.size))) status = flush(&batch, out, &read), wanted = 0;
      }
      batch.push_back(r);
      wanted += r.size;
    });
    INGOT_TRY(std::move(status));
    INGOT_TRY(flush(&batch, out, &read));
    return read;
  }

 private:
  Status fetch(uint64_t from, MutByteView out, uint64_t* read) const {
    if (auto s = source_->file->read(offset_ + from, out); !s.ok())
      return s.take_error().during(fmt::format("reading tensor '{}' of {}", name_, source_->path));
    *read += out.size();
    return {};
  }
  Status flush(std::vector<Run>* batch, MutByteView out, uint64_t* read) const {
    if (batch->empty()) return {};
    if (batch->size() == 1) {
      const Run r = batch->front();
      batch->clear();
      return fetch(r.from, out.subspan(r.to, r.size), read);
    }
    const uint64_t begin = batch->front().from, size = batch->back().from + batch->back().size - begin;
    const std::vector<Run> runs = std::exchange(*batch, {});
    // Not thread_local: where memory is short, glibc ends the process that registers a destructor.
    const std::unique_ptr<std::byte[]> span(new (std::nothrow) std::byte[size]);
    if (!span) {
      for (const Run& r : runs) INGOT_TRY(fetch(r.from, out.subspan(r.to, r.size), read));
      return {};
    }
    INGOT_TRY(fetch(begin, MutByteView(span.get(), size), read));
    for (const Run& r : runs) std::memcpy(out.data() + r.to, span.get() + (r.from - begin), r.size);
    return {};
  }

  std::shared_ptr<const SourceFile> source_;
  std::string name_;
  uint64_t offset_;
  TensorSpec spec_;
  uint64_t gap_, span_;
};

}  // namespace

NodePtr make_file_tensor(std::shared_ptr<const SourceFile> source, std::string name, uint64_t offset, TensorSpec spec) {
  return std::make_shared<FileTensor>(std::move(source), std::move(name), offset, spec);
}

}  // namespace ingot
