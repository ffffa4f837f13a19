#include "formats/chunked_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <tuple>

#include "exec/tiles.h"
#include "formats/file_ranges.h"
#include "kernels/hash.h"
#include "storage/store.h"

namespace ingot {
namespace {

// What is no run in the region goes through a buffer of so much.
constexpr uint64_t kSlab = 1 << 20;
constexpr size_t kMaxCorners = 4u << 20;

Region meet(const Region& a, const Region& b) {
  Region r = a;
  for (int i = 0; i < a.begin.rank; ++i) {
    r.begin[i] = std::max(a.begin[i], b.begin[i]);
    r.extent[i] = std::min(a.begin[i] + a.extent[i], b.begin[i] + b.extent[i]) - r.begin[i];
  }
  return r;
}

Region moved(Region r, const Shape& by, int64_t sign) {
  for (int i = 0; i < r.begin.rank; ++i) r.begin[i] += sign * by[i];
  return r;
}

class ChunkedTensor final : public Source, public InFiles {
 public:
  ChunkedTensor(std::string name, const TensorSpec& spec, std::vector<TensorChunk> chunks, std::shared_ptr<const ReadFile> files)
      : name_(std::move(name)), spec_(spec), chunks_(std::move(chunks)), files_(std::move(files)) {
    Hasher128 h;
    for (const auto& c : chunks_) h.update(as_bytes(to_string(c.region) + c.source->describe() + "|"));
    identity_ = to_hex(h.digest());
    // By the dimension in which the chunks differ most.
    size_t most = 0;
    for (int d = 0; d < spec_.shape.rank; ++d) {
      std::vector<int64_t> begins;
      for (const auto& c : chunks_) begins.push_back(c.region.begin[d]);
      std::sort(begins.begin(), begins.end());
      const auto n = static_cast<size_t>(std::unique(begins.begin(), begins.end()) - begins.begin());
      if (n > most) most = n, axis_ = d;
    }
    std::sort(chunks_.begin(), chunks_.end(), [&](const TensorChunk& a, const TensorChunk& b) {
      return std::tie(a.region.begin.d[static_cast<size_t>(axis_)], a.region.begin.d) < std::tie(b.region.begin.d[static_cast<size_t>(axis_)],
                      b.region.begin.d);
    });
    for (const auto& c : chunks_) longest_ = std::max(longest_, c.region.extent[axis_]);
  }

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "chunks v1:" + identity_; }
  const ReadFile* file() const override { return files_.get(); }

  uint64_t workspace(const Region& region) const override {
    uint64_t most = 0;
    each(region, [&](const TensorChunk& c, const Region& part) {
      int64_t first = 0;
      const Region local = moved(part, c.region.begin, -1);
      most = std::max(most, c.source->workspace(local) + (contiguous_in(region, part, &first) ? 0 : std::min(kSlab, bytes_of(spec_.type, part.elements()))));
      return true;
    });
    return most;
  }

  void trace(Origin* o) const override {
    o->tensor = name_;
    Region at{o->index, o->index};
    for (int i = 0; i < at.extent.rank; ++i) at.extent[i] = 1;
    if (!contains(Region::all(spec_.shape), at)) return;
    each(at, [&](const TensorChunk& c, const Region&) {
      Origin from;
      from.index = c.region.begin;
      c.source->trace(&from);
      o->file = from.file;
      return false;
    });
  }

  bool ranges(std::vector<FileRange>* out) const override {
    return std::all_of(chunks_.begin(), chunks_.end(), [&](const TensorChunk& c) { return file_ranges(*c.source, out); });
  }

  Result<uint64_t> read(const Region& region, MutByteView out) const override {
    uint64_t bytes = 0;
    Status status;
    each(region, [&](const TensorChunk& c, const Region& part) {
      status = read_part(c, part, region, out, &bytes);
      return status.ok();
    });
    if (!status.ok()) return status.take_error();
    return bytes;
  }

 private:
  // f(chunk, what of the region it has) until it says false.
  template <class F>
  void each(const Region& region, F f) const {
    if (region.elements() == 0) return;
    const int64_t from = region.begin[axis_], to = from + region.extent[axis_];
    auto it = std::upper_bound(chunks_.begin(), chunks_.end(), from - longest_, [&](int64_t x, const TensorChunk& c) { return x < c.region.begin[axis_]; });
    for (; it != chunks_.end() && it->region.begin[axis_] < to; ++it)
      if (intersects(it->region, region) && !f(*it, meet(it->region, region))) return;
  }

  Status read_part(const TensorChunk& c, const Region& part, const Region& region, MutByteView out, uint64_t* bytes) const {
    const auto read = [&](const Region& local, MutByteView to) -> Status {
      INGOT_ASSIGN(const uint64_t n, c.source->read(local, to));
      *bytes += n;
      return {};
    };
    int64_t first = 0;
    if (contiguous_in(region, part, &first))
      return read(moved(part, c.region.begin, -1), out.subspan(bytes_of(spec_.type, first), bytes_of(spec_.type, part.elements())));
    const uint64_t item = static_cast<uint64_t>(info(spec_.type).bytes);
    Shape gran = part.extent;
    for (int i = 0; i < gran.rank; ++i) gran[i] = 1;
    const Cuts cuts(part, gran, static_cast<int64_t>(kSlab / item));
    const std::unique_ptr<std::byte[]> slab(new (std::nothrow) std::byte[std::min(kSlab, bytes_of(spec_.type, part.elements()))]);
    if (!slab) return failed("reading tensor '{}': there is not enough memory for {} bytes", name_, kSlab);
    for (int64_t i = 0; i < cuts.size(); ++i) {
      const Region cut = cuts[i];
      INGOT_TRY(read(moved(cut, c.region.begin, -1), {slab.get(), bytes_of(spec_.type, cut.elements())}));
      for_each_run(region, cut, [&](int64_t at, int64_t from, int64_t n) {
        std::memcpy(out.data() + bytes_of(spec_.type, at), slab.get() + bytes_of(spec_.type, from), bytes_of(spec_.type, n));
      });
    }
    return {};
  }

  std::string name_, identity_;
  TensorSpec spec_;
  std::vector<TensorChunk> chunks_;  // by their begin in dimension axis_
  std::shared_ptr<const ReadFile> files_;
  int axis_ = 0;
  int64_t longest_ = 0;  // extent of any in that dimension
};

}  // namespace

// How often each element is covered is known by where that changes: at the corners of the boxes, each with a sign. All covered once has the corners of the whole.
// The least corner that is left over, in the order of indices, is an element that is covered otherwise.
std::string why_not_filled(const Shape& shape, const std::vector<Region>& boxes) {
  if (shape.elements() == 0) return "";
  __extension__ typedef unsigned __int128 Key;  // an index below the shape's, each dimension one more: shapes have less than 2^63 elements in at most 8
  std::vector<int> dims;  // those that any box divides
  for (int d = 0; d < shape.rank; ++d)
    if (std::any_of(boxes.begin(), boxes.end(), [&](const Region& b) { return b.extent[d] != shape[d]; })) dims.push_back(d);
  const size_t corners = size_t{1} << dims.size();
  if (boxes.size() + 1 > kMaxCorners / corners) return fmt::format("it has {} chunks in {} dimensions, more than is accepted", boxes.size(), dims.size());
  std::vector<std::pair<Key, int>> all;
  all.reserve((boxes.size() + 1) * corners);
  const auto add = [&](const Region& box, int sign) {
    for (size_t c = 0; c < corners; ++c) {
      Key key = 0;
      int s = sign;
      for (size_t i = 0; i < dims.size(); ++i) {
        const int d = dims[i];
        const bool far = c >> i & 1;
        key = key * static_cast<Key>(shape[d] + 1) + static_cast<Key>(box.begin[d] + (far ? box.extent[d] : 0));
        if (far) s = -s;
      }
      all.emplace_back(key, s);
    }
  };
  for (const Region& b : boxes) add(b, 1);
  add(Region::all(shape), -1);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; i < all.size();) {
    const Key key = all[i].first;
    int sum = 0;
    for (; i < all.size() && all[i].first == key; ++i) sum += all[i].second;
    if (sum == 0) continue;
    Shape index = shape;
    for (int d = 0; d < shape.rank; ++d) index[d] = 0;
    Key rest = key;
    for (size_t k = dims.size(); k-- > 0;) {
      const auto n = static_cast<Key>(shape[dims[k]] + 1);
      index[dims[k]] = static_cast<int64_t>(rest % n);
      rest /= n;
    }
    return fmt::format("element {} lies in {}", to_string(index), sum < 0 ? "no chunk" : fmt::format("{} chunks", sum + 1));
  }
  return "";
}

NodePtr make_chunked_tensor(std::string name, const TensorSpec& spec, std::vector<TensorChunk> chunks, std::shared_ptr<const ReadFile> files) {
  if (chunks.size() == 1) return std::move(chunks[0].source);
  return std::make_shared<ChunkedTensor>(std::move(name), spec, std::move(chunks), std::move(files));
}

}  // namespace ingot
