#include "formats/rounded_tensor.h"

#include <fmt/format.h>

#include "quant/codec.h"

namespace ingot {
namespace {

class Rounded final : public Node {
 public:
  Rounded(NodePtr wide, const Codec& to) : wide_(std::move(wide)), to_(to) {}
  TensorSpec spec() const override { return {to_.type, wide_->spec().shape}; }
  std::string describe() const override { return fmt::format("rounded {}v{}", info(to_.type).name, to_.version); }
  std::vector<NodePtr> inputs() const override { return {wide_}; }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *wide_); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({wide_, r, false}); }
  void trace(Origin* o) const override { wide_->trace(o); }
  NodePtr unrounded() const override { return wide_; }
  Status compute(const Compute& c) const override {
    to_.encode(c.inputs[0].f32(), 1, c.region.elements(), {}, c.out.data());
    return {};
  }

 private:
  NodePtr wide_;
  const Codec& to_;
};

}  // namespace

NodePtr rounded_tensor(NodePtr wide, DType type) {
  const Codec* to = type == DType::kBF16 || type == DType::kF16 ? find_codec(type) : nullptr;
  return to && wide->spec().type == DType::kF32 ? std::make_shared<Rounded>(std::move(wide), *to) : wide;
}

}  // namespace ingot
