#include "formats/widened_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "quant/decode.h"

namespace ingot {
namespace {

using Widen = void (*)(const std::byte* in, int64_t n, float* out);

template <class T>
void widen(const std::byte* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, in + static_cast<size_t>(i) * sizeof v, sizeof v);
    out[i] = static_cast<float>(v);
  }
}

struct Plain {
  DType type;
  Widen widen;
};
constexpr Plain kPlain[] = {{DType::kBool, widen<uint8_t>}, {DType::kU8, widen<uint8_t>},   {DType::kI8, widen<int8_t>},   {DType::kI16, widen<int16_t>},
                            {DType::kI32, widen<int32_t>},  {DType::kI64, widen<int64_t>},  {DType::kU16, widen<uint16_t>}, {DType::kU32, widen<uint32_t>}, {DType::kU64, widen<uint64_t>}};

class Widened final : public Node {
 public:
  Widened(NodePtr node, Widen widen) : node_(std::move(node)), widen_(widen) {}
  TensorSpec spec() const override { return {DType::kF32, node_->spec().shape}; }
  std::string describe() const override { return fmt::format("widened v1 {}", info(node_->spec().type).name); }
  std::vector<NodePtr> inputs() const override { return {node_}; }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *node_); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({node_, r, false}); }
  void trace(Origin* o) const override { node_->trace(o); }
  Status compute(const Compute& c) const override {
    auto* out = reinterpret_cast<float*>(c.out.data());
    const int64_t n = c.region.elements();
    if (n == 0) return {};
    widen_(c.inputs[0].data, n, out);
    return {};
  }

 private:
  NodePtr node_;
  Widen widen_;
};

}  // namespace

NodePtr widened_tensor(NodePtr node) {
  const DType type = node->spec().type;
  if (type == DType::kF32) return node;
  const auto plain = std::find_if(std::begin(kPlain), std::end(kPlain), [&](const Plain& p) { return p.type == type; });
  const Widen widen = plain != std::end(kPlain) ? plain->widen : is_block_type(type) ? nullptr : find_decode(type);
  return widen ? std::make_shared<Widened>(std::move(node), widen) : nullptr;
}

}  // namespace ingot
