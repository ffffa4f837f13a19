#include "transform/permute.h"

#include <cstring>

namespace ingot::transform {
namespace {

class PermuteRope final : public Node {
 public:
  PermuteRope(NodePtr input, int64_t head_rows) : input_(std::move(input)), head_rows_(head_rows), spec_(input_->spec()) {}

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("permute_rope v1 head {} interleaved", head_rows_); }
  std::vector<NodePtr> inputs() const override { return {input_}; }
  // Whole heads: then a region of the output is made from the same region of the input.
  Shape granularity() const override {
    Shape g = Node::granularity();
    g[0] = head_rows_;
    return joined_granularity(g, *input_);
  }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({input_, r, false}); }

  void trace(Origin* o) const override {
    const int64_t half = head_rows_ / 2, row = o->index[0] % head_rows_;
    o->index[0] += row % 2 * half + row / 2 - row;
    input_->trace(o);
  }

  Status compute(const Compute& c) const override {
    const int64_t rows = c.region.extent[0], half = head_rows_ / 2;
    if (rows == 0) return {};
    const uint64_t row_bytes = bytes_of(spec_.type, c.region.elements() / rows);
    for (int64_t h = 0; h < rows; h += head_rows_)
      for (int64_t j = 0; j < half; ++j)
        for (int64_t k = 0; k < 2; ++k)
          std::memcpy(c.out.data() + static_cast<uint64_t>(h + 2 * j + k) * row_bytes,
                      c.inputs[0].data + static_cast<uint64_t>(h + k * half + j) * row_bytes, row_bytes);
    return {};
  }

 private:
  NodePtr input_;
  int64_t head_rows_;
  TensorSpec spec_;
};

}  // namespace

Result<NodePtr> permute_rope(NodePtr node, int64_t heads) {
  const TensorSpec s = node->spec();
  if (s.shape.rank < 1 || heads < 1 || s.shape[0] == 0 || s.shape[0] % (2 * heads) != 0)
    return bad_input("{} rows cannot be split into {} heads of an even number of rows",
                     s.shape.rank ? s.shape[0] : 0, heads);
  if (s.shape.rank == 1 && is_block_type(s.type))
    return bad_input("the elements of a 1-D {} tensor cannot be permuted", info(s.type).name);
  return NodePtr(std::make_shared<PermuteRope>(std::move(node), s.shape[0] / heads));
}

}  // namespace ingot::transform
