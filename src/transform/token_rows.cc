#include "transform/token_rows.h"

#include <cstring>
#include <map>

#include "quant/codec.h"

namespace ingot::transform {
namespace {

void decode(const View& v, int64_t first, int64_t n, float* out) {
  const std::byte* p = v.data + bytes_of(v.type, first);
  if (v.type == DType::kF32) std::memcpy(out, p, static_cast<size_t>(n) * sizeof(float));
  else find_codec(v.type)->decode(p, n, out);
}

class WithRows final : public Node {
 public:
  WithRows(NodePtr base, NodePtr trained, std::vector<int64_t> indices) : base_(std::move(base)), trained_(std::move(trained)) {
    spec_ = base_->spec();
    spec_.type = DType::kF32;
    for (size_t i = 0; i < indices.size(); ++i) row_of_[indices[i]] = static_cast<int64_t>(i);
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    std::string text = fmt::format("with_rows v1 {}v{} {}v{}", info(base_->spec().type).name, find_codec(base_->spec().type)->version,
                                   info(trained_->spec().type).name, find_codec(trained_->spec().type)->version);
    for (const auto& [row, i] : row_of_) text += fmt::format(" {}:{}", row, i);
    return text;
  }
  std::vector<NodePtr> inputs() const override { return {base_, trained_}; }
  void trace(Origin* o) const override { o->changed = true, base_->trace(o); }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *base_); }

  // The trained rows, which are few, go to every tile.
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({base_, r, false});
    Region all = Region::all(trained_->spec().shape);
    all.begin[1] = r.begin[1], all.extent[1] = r.extent[1];
    out->push_back({trained_, all, true});
  }
  Status compute(const Compute& c) const override {
    const int64_t first = c.region.begin[0], rows = c.region.extent[0], cols = c.region.extent[1];
    auto* out = reinterpret_cast<float*>(c.out.data());
    decode(c.inputs[0], 0, rows * cols, out);
    for (auto it = row_of_.lower_bound(first); it != row_of_.end() && it->first < first + rows; ++it)
      decode(c.inputs[1], it->second * cols, cols, out + (it->first - first) * cols);
    return {};
  }

 private:
  NodePtr base_, trained_;
  std::map<int64_t, int64_t> row_of_;  // of the base -> of the trained
  TensorSpec spec_;
};

}  // namespace

NodePtr with_rows(NodePtr base, NodePtr trained, std::vector<int64_t> indices) {
  return std::make_shared<WithRows>(std::move(base), std::move(trained), std::move(indices));
}

}  // namespace ingot::transform
