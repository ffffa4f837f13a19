#include "transform/permute.h"

#include <cstring>

namespace ingot::transform {
namespace {

class PermuteRope final : public Node {
 public:
  PermuteRope(NodePtr input, int64_t head_rows, RopeOrder order)
      : input_(std::move(input)), head_rows_(head_rows), weave_(order == RopeOrder::kToInterleaved), spec_(input_->spec()) {
    if (NodePtr exact = input_->unrounded()) unrounded_ = std::make_shared<PermuteRope>(std::move(exact), head_rows, order);
  }

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("permute_rope v1 head {} {}", head_rows_, weave_ ? "interleaved" : "halves"); }
  std::vector<NodePtr> inputs() const override { return {input_}; }
  // Whole heads: then a region of the output is made from the same region of the input.
  Shape granularity() const override {
    Shape g = Node::granularity();
    g[0] = head_rows_;
    return joined_granularity(g, *input_);
  }
  NodePtr unrounded() const override { return unrounded_; }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({input_, r, false}); }

  void trace(Origin* o) const override {
    const int64_t half = head_rows_ / 2, row = o->index[0] % head_rows_;
    o->index[0] += (weave_ ? row % 2 * half + row / 2 : row % half * 2 + row / half) - row;
    input_->trace(o);
  }

  Status compute(const Compute& c) const override {
    const int64_t rows = c.region.extent[0], half = head_rows_ / 2;
    if (rows == 0) return {};
    const uint64_t row_bytes = bytes_of(spec_.type, c.region.elements() / rows);
    for (int64_t h = 0; h < rows; h += head_rows_)
      for (int64_t j = 0; j < half; ++j)
        for (int64_t k = 0; k < 2; ++k) {
          const int64_t split = h + k * half + j, woven = h + 2 * j + k;
          std::memcpy(c.out.data() + static_cast<uint64_t>(weave_ ? woven : split) * row_bytes,
                      c.inputs[0].data + static_cast<uint64_t>(weave_ ? split : woven) * row_bytes, row_bytes);
        }
    return {};
  }

 private:
  NodePtr input_, unrounded_;
  int64_t head_rows_;
  bool weave_;
  TensorSpec spec_;
};

}  // namespace

Result<NodePtr> permute_rope(NodePtr node, int64_t heads, RopeOrder order) {
  const TensorSpec s = node->spec();
  if (s.shape.rank < 1 || heads < 1 || s.shape[0] == 0 || s.shape[0] % (2 * heads) != 0)
    return bad_input("{} rows cannot be split into {} heads of an even number of rows",
                     s.shape.rank ? s.shape[0] : 0, heads);
  if (s.shape.rank == 1 && is_block_type(s.type))
    return bad_input("the elements of a 1-D {} tensor cannot be permuted", info(s.type).name);
  return NodePtr(std::make_shared<PermuteRope>(std::move(node), s.shape[0] / heads, order));
}

}  // namespace ingot::transform
