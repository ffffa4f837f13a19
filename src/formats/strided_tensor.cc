#include "formats/strided_tensor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace ingot {
namespace {

constexpr uint64_t kSpan = 256 << 10;   // read together at most, as in file_tensor.cc
constexpr uint64_t kStepOver = 4 << 10; // elements of one row that lie closer are read with what is between them

class StridedTensor final : public Source {
 public:
  StridedTensor(std::shared_ptr<const SourceFile> source, std::string name, const StridedView& view)
      : source_(std::move(source)), name_(std::move(name)), v_(view), item_(static_cast<uint64_t>(info(view.spec.type).bytes)),
        gap_(source_->file->capabilities().request_bytes), span_(std::max(kSpan, 2 * gap_)) {
    for (int i = 0; i < v_.spec.shape.rank; ++i)
      if (const int64_t stride = v_.strides[static_cast<size_t>(i)]; v_.spec.shape[i] > 1 && stride > 0) least_ = std::min(least_, stride);
  }

  TensorSpec spec() const override { return v_.spec; }
  std::string describe() const override {
    std::string s = fmt::format("strided v1:{}|{}@{}", source_->file->identity(), source_->header_hash, v_.offset);
    for (int i = 0; i < v_.spec.shape.rank; ++i) s += fmt::format(" {}", v_.strides[static_cast<size_t>(i)]);
    return s + (v_.swap ? " swap" : "") + (v_.negate ? " negate" : "") + (v_.conjugate ? " conjugate" : "");
  }
  const ReadFile* file() const override { return source_->file.get(); }
  uint64_t workspace(const Region&) const override { return span_; }
  void trace(Origin* o) const override { o->tensor = name_, o->file = source_->path; }

  Result<uint64_t> read(const Region& region, MutByteView out) const override {
    if (region.elements() == 0) return 0;
    Gather g{*this, out, {}, 0, 0, 0, 1, 1, 0};
    INGOT_TRY(gather(region, &g));
    expand(region, out.data());
    turn(region, out);
    return g.read;
  }

 private:
  struct Piece {
    uint64_t from;  // bytes, of its first element
    int64_t to;     // elements, within the output
    int64_t n;
  };
  // Pieces of a row each, gathered until a read is worth it.
  struct Gather {
    const StridedTensor& t;
    MutByteView out;
    std::vector<Piece> batch;
    uint64_t begin, end;  // bytes, of the batch
    uint64_t wanted;      // of the batch
    int64_t step, out_step;  // elements from one of a row to the next
    uint64_t read;

    uint64_t size_of(const Piece& p) const { return (static_cast<uint64_t>(p.n - 1) * static_cast<uint64_t>(step) + 1) * t.item_; }

    Status add(const Piece& p) {
      const uint64_t size = size_of(p), to = p.from + size;
      if (!batch.empty()) {
        const uint64_t span = std::max(end, to) - begin;
        // The tiles of a transposed matrix are columns, and each would read the whole of it: see file_tensor.cc.
        if (p.from < begin || (p.from > end && p.from - end > t.gap_) || span > t.span_ || (t.gap_ <= (64 << 10) && span > 2 * (wanted + size))) INGOT_TRY(flush());
      }
      if (batch.empty()) begin = p.from, end = to;
      end = std::max(end, to);
      wanted += size;
      batch.push_back(p);
      return {};
    }

    Status fetch(uint64_t from, MutByteView to) {
      if (auto s = t.source_->file->read(from, to); !s.ok())
        return s.take_error().during(fmt::format("reading tensor '{}' of {}", t.name_, t.source_->path));
      read += to.size();
      return {};
    }

    Status flush() {
      const std::vector<Piece> pieces = std::exchange(batch, {});
      wanted = 0;
      if (pieces.empty()) return {};
      const uint64_t item = t.item_;
      if (pieces.size() == 1 && (pieces[0].n == 1 || (step == 1 && out_step == 1)))
        return fetch(pieces[0].from, out.subspan(static_cast<uint64_t>(pieces[0].to) * item, static_cast<uint64_t>(pieces[0].n) * item));
      const std::unique_ptr<std::byte[]> span(new (std::nothrow) std::byte[end - begin]);
      if (!span) return failed("reading tensor '{}' of {}: there is not enough memory for {} bytes", t.name_, t.source_->path, end - begin);
      INGOT_TRY(fetch(begin, {span.get(), end - begin}));
      for (const Piece& p : pieces) {
        const std::byte* from = span.get() + (p.from - begin);
        std::byte* to = out.data() + static_cast<uint64_t>(p.to) * item;
        if (step == 1 && out_step == 1) {
          std::memcpy(to, from, static_cast<uint64_t>(p.n) * item);
          continue;
        }
        const uint64_t from_step = static_cast<uint64_t>(step) * item, to_step = static_cast<uint64_t>(out_step) * item;
        for (int64_t i = 0; i < p.n; ++i, from += from_step, to += to_step) copy_item(to, from, item);
      }
      return {};
    }

    static void copy_item(std::byte* to, const std::byte* from, uint64_t item) {
      switch (item) {
        case 1: *to = *from; break;
        case 2: std::memcpy(to, from, 2); break;
        case 4: std::memcpy(to, from, 4); break;
        default: std::memcpy(to, from, 8);
      }
    }
  };

  // All but what stride 0 repeats, in the order in which it lies in the file.
  Status gather(const Region& region, Gather* g) const {
    struct Dim {
      int64_t stride, out_stride, extent;
    };
    std::vector<Dim> dims;
    uint64_t from = v_.offset;
    for (int i = 0; i < region.extent.rank; ++i) {
      const int64_t stride = v_.strides[static_cast<size_t>(i)];
      from += static_cast<uint64_t>(region.begin[i] * stride) * item_;
      if (region.extent[i] > 1 && stride > 0) dims.push_back({stride, region.extent.stride(i), region.extent[i]});
    }
    std::sort(dims.begin(), dims.end(), [](const Dim& a, const Dim& b) { return std::pair(a.stride, a.out_stride) > std::pair(b.stride, b.out_stride); });
    Dim row{1, 1, 1};  // the run of elements that are nearest to each other
    if (!dims.empty()) row = dims.back(), dims.pop_back();
    g->step = row.stride, g->out_step = row.out_stride;
    const uint64_t step_bytes = static_cast<uint64_t>(row.stride) * item_;
    // Of a row no more than a span at once; and where other tiles are what lies between its elements, these alone.
    const int64_t most = step_bytes > kStepOver || row.stride > least_ ? 1 : row.stride == 1 && row.out_stride == 1 ? row.extent : std::max<int64_t>(1, static_cast<int64_t>(span_ / step_bytes));
    std::vector<int64_t> index(dims.size(), 0);
    for (;;) {
      uint64_t at = from;
      int64_t to = 0;
      for (size_t d = 0; d < dims.size(); ++d) at += static_cast<uint64_t>(index[d] * dims[d].stride) * item_, to += index[d] * dims[d].out_stride;
      for (int64_t i = 0; i < row.extent; i += most)
        INGOT_TRY(g->add({at + static_cast<uint64_t>(i) * step_bytes, to + i * row.out_stride, std::min(most, row.extent - i)}));
      size_t d = dims.size();
      while (d > 0 && ++index[d - 1] == dims[d - 1].extent) index[--d] = 0;
      if (d == 0) return g->flush();
    }
  }

  void expand(const Region& region, std::byte* out) const {
    for (int d = region.extent.rank - 1; d >= 0; --d) {
      if (v_.strides[static_cast<size_t>(d)] != 0 || region.extent[d] == 1) continue;
      const uint64_t inner = static_cast<uint64_t>(region.extent.stride(d)) * item_;
      const int64_t outer = region.elements() / region.extent.stride(d) / region.extent[d];
      for (int64_t a = 0; a < outer; ++a) {
        std::byte* first = out + static_cast<uint64_t>(a * region.extent[d]) * inner;
        for (int64_t k = 1; k < region.extent[d]; ++k) std::memcpy(first + static_cast<uint64_t>(k) * inner, first, inner);
      }
    }
  }

  void turn(const Region& region, MutByteView out) const {
    const bool complex = v_.spec.type == DType::kC64;
    const uint64_t part = complex ? item_ / 2 : item_;
    if (v_.swap && part > 1)
      for (uint64_t i = 0; i < out.size(); i += part) std::reverse(out.data() + i, out.data() + i + part);
    if (v_.negate)
      for (uint64_t i = part - 1; i < out.size(); i += part) out[i] ^= std::byte{0x80};
    if (!v_.conjugate) return;
    // Where pairs are the last dimension a region may begin within one.
    const uint64_t n = complex ? 2 : static_cast<uint64_t>(region.extent.back()), first = complex ? 0 : static_cast<uint64_t>(region.begin.back());
    for (uint64_t i = 0; i * part < out.size(); ++i)
      if ((first + i % n) % 2) out[(i + 1) * part - 1] ^= std::byte{0x80};
  }

  std::shared_ptr<const SourceFile> source_;
  std::string name_;
  StridedView v_;
  uint64_t item_, gap_, span_;
  int64_t least_ = INT64_MAX;  // stride
};

}  // namespace

bool StridedView::contiguous() const {
  if (swap || negate || conjugate) return false;
  const Shape& s = spec.shape;
  if (s.elements() == 0) return true;
  for (int i = 0; i < s.rank; ++i)
    if (s[i] != 1 && strides[static_cast<size_t>(i)] != s.stride(i)) return false;
  return true;
}

bool StridedView::reach(uint64_t* elements) const {
  *elements = spec.shape.elements() == 0 ? 0 : 1;
  if (*elements == 0) return true;
  for (int i = 0; i < spec.shape.rank; ++i) {
    uint64_t n = 0;
    if (!checked_mul(static_cast<uint64_t>(spec.shape[i] - 1), static_cast<uint64_t>(strides[static_cast<size_t>(i)]), &n) || !checked_add(*elements, n, elements))
      return false;
  }
  return true;
}

NodePtr make_strided_tensor(std::shared_ptr<const SourceFile> source, std::string name, const StridedView& view) {
  if (view.contiguous()) return make_file_tensor(std::move(source), std::move(name), view.offset, view.spec);
  return std::make_shared<StridedTensor>(std::move(source), std::move(name), view);
}

}  // namespace ingot
