#include "transform/nvfp4_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "transform/gguf_check.h"

namespace ingot::transform {
namespace {

constexpr float kLargest = 448.0f * 6.0f;

int64_t matrices_of(const Shape& s) { return s.rank > 2 ? s[0] : 1; }

// Elements of a region that belong to one matrix, one after another; and the first of these matrices.
struct Matrices {
  explicit Matrices(const Region& r) : size(r.extent.rank > 2 ? r.extent.stride(0) : r.elements()), first(r.extent.rank > 2 ? r.begin[0] : 0) {}
  int64_t size, first;
};

// The scale from the largest finite value; what is not finite is refused where the blocks are made.
class Scale final : public Fold {
 public:
  explicit Scale(NodePtr in) : in_(std::move(in)), matrices_(matrices_of(in_->spec().shape)) {}
  std::string describe() const override { return "nvfp4 scale 1"; }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  std::vector<TensorSpec> outputs() const override { return {{DType::kF32, {matrices_}}}; }
  int64_t chunk() const override { return 1 << 18; }
  uint64_t state_bytes() const override { return static_cast<uint64_t>(matrices_) * sizeof(float); }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView) const override {
    auto* most = reinterpret_cast<float*>(state.data());
    const Matrices m(in[0].region);
    const int64_t n = in[0].region.elements();
    for (int64_t i = 0, e = m.first; i < n; i += m.size, ++e) {
      float largest = most[e];
      for (int64_t k = i; k < i + m.size; ++k) {
        const float x = std::fabs(in[0].f32()[k]);
        largest = x > largest && x <= std::numeric_limits<float>::max() ? x : largest;
      }
      most[e] = largest;
    }
    return {};
  }
  Status merge(MutByteView state, ByteView later) const override {
    auto* a = reinterpret_cast<float*>(state.data());
    const auto* b = reinterpret_cast<const float*>(later.data());
    for (int64_t e = 0; e < matrices_; ++e) a[e] = std::max(a[e], b[e]);
    return {};
  }
  Status finish(ByteView state, MutByteView outputs) const override {
    const auto* most = reinterpret_cast<const float*>(state.data());
    auto* out = reinterpret_cast<float*>(outputs.data());
    for (int64_t e = 0; e < matrices_; ++e) {
      float s = most[e] > 0 ? std::max(most[e] / kLargest, std::numeric_limits<float>::min()) : 1.0f;
      while (most[e] / s > kLargest) s = std::nextafter(s, std::numeric_limits<float>::infinity());
      out[e] = s;
    }
    return {};
  }

 private:
  NodePtr in_;
  int64_t matrices_;
};

class Divided final : public Node {
 public:
  Divided(NodePtr values, NodePtr scale) : values_(std::move(values)), scale_(std::move(scale)) {}
  TensorSpec spec() const override { return values_->spec(); }
  std::string describe() const override { return "divided by a scale"; }
  std::vector<NodePtr> inputs() const override { return {values_, scale_}; }
  Shape granularity() const override { return values_->granularity(); }
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({values_, r, false});
    out->push_back({scale_, Region::all(scale_->spec().shape), true});
  }
  void trace(Origin* o) const override { values_->trace(o); }
  Status compute(const Compute& c) const override {
    auto* out = reinterpret_cast<float*>(c.out.data());
    const Matrices m(c.region);
    const int64_t n = c.region.elements();
    for (int64_t i = 0, e = m.first; i < n; i += m.size, ++e) {
      const float s = c.inputs[1].f32()[e];
      for (int64_t k = i; k < i + m.size; ++k) out[k] = c.inputs[0].f32()[k] / s;
    }
    return {};
  }

 private:
  NodePtr values_, scale_;
};

}  // namespace

Nvfp4Scaled nvfp4_scaled(NodePtr floats) {
  auto scale = std::make_shared<FoldOutput>(std::make_shared<Scale>(floats), 0);
  return {std::make_shared<Divided>(std::move(floats), scale), scale};
}

bool has_nvfp4_scale(const Artifact& gguf, std::string_view weight) {
  const size_t part = weight.starts_with("blk.") ? weight.find('.', 4) : std::string_view::npos;
  if (part == std::string_view::npos) return false;
  const std::string_view name = weight.substr(part + 1);
  for (const char* attention : {"attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output"})
    if (name == fmt::format("{}.weight", attention)) return true;
  const Architecture* arch = architecture_of(gguf);
  if (!arch || !arch->llama_cpp.ffn_scales) return false;
  for (const char* matrix : {"gate", "up", "down"})
    for (const char* of : {"", "_exps", "_shexp"})
      if (name == fmt::format("ffn_{}{}.weight", matrix, of)) return true;
  return false;
}

}  // namespace ingot::transform
