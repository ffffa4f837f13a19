#include "transform/fp8.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quant/decode.h"

namespace ingot::transform {
namespace {

using Table = std::array<float, 256>;
const Table& table_of(DType type) {
  const auto make = [](DType t) {
    Table values;
    for (size_t i = 0; i < values.size(); ++i) {
      const auto code = static_cast<std::byte>(i);
      find_decode(t)(&code, 1, &values[i]);
    }
    return values;
  };
  static const Table e4m3 = make(DType::kF8E4M3), e5m2 = make(DType::kF8E5M2);
  return type == DType::kF8E4M3 ? e4m3 : e5m2;
}

// Number `at` of the scale.
float number(const View& v, int64_t at) {
  float out;
  find_decode(v.type)(v.data + bytes_of(v.type, at), 1, &out);
  return out;
}

class Fp8Weight final : public Node {
 public:
  Fp8Weight(NodePtr weight, NodePtr scale, int64_t block_rows, int64_t block_cols, std::string name)
      : weight_(std::move(weight)), scale_(std::move(scale)), block_rows_(block_rows), block_cols_(block_cols), name_(std::move(name)) {
    spec_ = weight_->spec();
    spec_.type = DType::kF32;
    single_ = !scale_ || scale_->spec().shape.elements() == 1;
  }

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    return fmt::format("fp8 v2 {} scale {} blocks {}x{}", info(weight_->spec().type).name, scale_ ? read_tag(scale_->spec().type) : "nonev1",
                       single_ ? 0 : block_rows_, single_ ? 0 : block_cols_);
  }
  std::vector<NodePtr> inputs() const override { return scale_ ? std::vector<NodePtr>{weight_, scale_} : std::vector<NodePtr>{weight_}; }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *weight_); }
  void trace(Origin* o) const override { weight_->trace(o); }
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({weight_, r, false});
    if (scale_) out->push_back({scale_, Region::all(scale_->spec().shape), true});
  }

  Status compute(const Compute& c) const override {
    const Table& table = table_of(c.inputs[0].type);
    const auto* in = reinterpret_cast<const uint8_t*>(c.inputs[0].data);
    auto* out = reinterpret_cast<float*>(c.out.data());
    if (single_) {
      float s = 1;
      if (scale_) INGOT_TRY(scale_at(c.inputs[1], 0, &s));
      for (int64_t i = 0, n = c.region.elements(); i < n; ++i) out[i] = table[in[i]] * s;
      return {};
    }
    const int64_t rows = c.region.extent[0], cols = c.region.extent[1], first = c.region.begin[1];
    const int64_t across = (spec_.shape[1] + block_cols_ - 1) / block_cols_;
    for (int64_t r = 0; r < rows; ++r, in += cols, out += cols) {
      const int64_t blocks = (c.region.begin[0] + r) / block_rows_ * across;
      for (int64_t i = 0; i < cols;) {
        const int64_t block = (first + i) / block_cols_, end = std::min(cols, (block + 1) * block_cols_ - first);
        float s = 1;
        INGOT_TRY(scale_at(c.inputs[1], blocks + block, &s));
        for (; i < end; ++i) out[i] = table[in[i]] * s;
      }
    }
    return {};
  }

 private:
  // Finite values stay finite.
  Status scale_at(const View& v, int64_t at, float* out) const {
    *out = number(v, at);
    if (std::isfinite(*out * 57344.0f)) return {};
    return bad_input("{} is {}, with which the weights beyond it overflow; the file is damaged",
                     element_text(*scale_, index_in(v.region, at), name_), *out);
  }

  NodePtr weight_, scale_;
  int64_t block_rows_, block_cols_;
  std::string name_;
  bool single_;
  TensorSpec spec_;
};

}  // namespace

bool is_fp8(DType t) { return t == DType::kF8E4M3 || t == DType::kF8E5M2; }

float fp8_value(DType type, uint8_t code) { return table_of(type)[code]; }

NodePtr fp8_weight(NodePtr weight, NodePtr scale, int64_t block_rows, int64_t block_cols, std::string name) {
  return std::make_shared<Fp8Weight>(std::move(weight), std::move(scale), block_rows, block_cols, std::move(name));
}

}  // namespace ingot::transform
