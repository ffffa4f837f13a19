#include "formats/gguf_scales.h"

#include <fmt/format.h>

#include <cstring>

#include "quant/decode.h"

namespace ingot {
namespace {

constexpr std::string_view kWeight = ".weight", kScale = ".scale", kInputScale = ".input_scale";

// The weights' values times their matrix's scale.
class Scaled final : public Node {
 public:
  Scaled(NodePtr blocks, NodePtr scale) : blocks_(std::move(blocks)), scale_(std::move(scale)), decode_(find_decode(blocks_->spec().type)) {}
  TensorSpec spec() const override { return {DType::kF32, blocks_->spec().shape}; }
  std::string describe() const override { return "scaled " + read_tag(blocks_->spec().type); }
  std::vector<NodePtr> inputs() const override { return {blocks_, scale_}; }
  Shape granularity() const override { return blocks_->granularity(); }
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({blocks_, r, false});
    out->push_back({scale_, Region::all(scale_->spec().shape), true});
  }
  void trace(Origin* o) const override { blocks_->trace(o); }
  Status compute(const Compute& c) const override {
    auto* out = reinterpret_cast<float*>(c.out.data());
    const int64_t n = c.region.elements();
    decode_(c.inputs[0].data, n, out);
    const bool one = c.inputs[1].region.elements() == 1;
    const int64_t matrix = one ? n : c.region.extent.stride(0);
    for (int64_t i = 0; i < n; ++i) out[i] *= c.inputs[1].f32()[one ? 0 : c.region.begin[0] + i / matrix];
    return {};
  }

 private:
  NodePtr blocks_, scale_;
  Decode decode_;
};

class Blocks final : public Node {
 public:
  Blocks(NodePtr blocks, NodePtr scale) : blocks_(std::move(blocks)), scaled_(std::make_shared<Scaled>(blocks_, std::move(scale))) {}
  TensorSpec spec() const override { return blocks_->spec(); }
  std::string describe() const override { return "blocks beside a scale"; }
  std::vector<NodePtr> inputs() const override { return {blocks_}; }
  Shape granularity() const override { return blocks_->granularity(); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({blocks_, r, false}); }
  void trace(Origin* o) const override { blocks_->trace(o); }
  NodePtr unrounded() const override { return scaled_; }
  Status compute(const Compute& c) const override {
    std::memcpy(c.out.data(), c.inputs[0].data, c.out.size());
    return {};
  }

 private:
  NodePtr blocks_, scaled_;
};

// `name` with another end; empty if it has not that one.
std::string with_end(std::string_view name, std::string_view from, std::string_view to) {
  if (!name.ends_with(from)) return "";
  return fmt::format("{}{}", name.substr(0, name.size() - from.size()), to);
}

}  // namespace

std::string gguf_scale_name(std::string_view weight) { return with_end(weight, kWeight, kScale); }

bool is_gguf_scale(const Artifact& gguf, std::string_view name) {
  for (const std::string_view end : {kScale, kInputScale})
    if (const std::string weight = with_end(name, end, kWeight); !weight.empty() && gguf.find(weight)) return true;
  return false;
}

Status bind_gguf_scales(Artifact* gguf) {
  for (const LazyTensor& t : gguf->tensors) {
    const std::string weight = with_end(t.name, kScale, kWeight);
    const LazyTensor* w = weight.empty() ? nullptr : gguf->find(weight);
    if (!w || !find_decode(w->spec().type) || (weight == "output.weight" && w->spec().type != DType::kNVFP4)) continue;
    const TensorSpec spec = t.spec();
    const Shape shape = w->spec().shape;
    const int64_t matrices = shape.rank == 3 ? shape[0] : 1, n = spec.shape.elements();
    if (spec.type != DType::kF32 || (n != 1 && n != matrices))
      return bad_input("reading {}: the scale '{}' is {} {}, expected F32 with 1 value{} for '{}'", gguf->path, t.name, info(spec.type).name, to_string(spec.shape),
                       matrices > 1 ? fmt::format(" or {}", matrices) : "", weight);
    gguf->tensors.node(static_cast<size_t>(w - &*gguf->tensors.begin())) = std::make_shared<Blocks>(w->node, t.node);
  }
  return {};
}

NodePtr gguf_values(const Artifact& gguf, const LazyTensor& t) {
  const std::string scale = gguf_scale_name(t.name);
  NodePtr values = scale.empty() || !gguf.find(scale) ? nullptr : t.node->unrounded();
  return values ? values : t.node;
}

void drop_gguf_scales(std::string_view weight, Artifact* gguf) {
  const std::string scale = with_end(weight, kWeight, kScale), input = with_end(weight, kWeight, kInputScale);
  if (scale.empty() || (!gguf->find(scale) && !gguf->find(input))) return;
  gguf->tensors.edit([&](auto& all) { std::erase_if(all, [&](const LazyTensor& t) { return t.name == scale || t.name == input; }); });
}

}  // namespace ingot
