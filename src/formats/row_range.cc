#include "formats/row_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace ingot {
namespace {

class RowRange final : public Node {
 public:
  RowRange(NodePtr node, int64_t begin, int64_t rows) : node_(std::move(node)), begin_(begin), spec_(node_->spec()) {
    spec_.shape[0] = rows;
    if (NodePtr exact = node_->unrounded()) unrounded_ = std::make_shared<RowRange>(std::move(exact), begin, rows);
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("rows v1 from {}", begin_); }
  std::vector<NodePtr> inputs() const override { return {node_}; }
  NodePtr unrounded() const override { return unrounded_; }
  Shape granularity() const override {
    Shape g = node_->granularity();
    g[0] = std::min(g[0], std::max<int64_t>(spec_.shape[0], 1));
    return g;
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    Region inner = r;
    inner.begin[0] += begin_;
    out->push_back({node_, inner, false});
  }
  void trace(Origin* o) const override {
    o->index[0] += begin_;
    node_->trace(o);
  }
  Status compute(const Compute& c) const override {
    if (!c.out.empty()) std::memcpy(c.out.data(), c.inputs[0].data, c.out.size());
    return {};
  }

 private:
  NodePtr node_, unrounded_;
  int64_t begin_;
  TensorSpec spec_;
};

}  // namespace

NodePtr row_range(NodePtr node, int64_t begin, int64_t rows) { return std::make_shared<RowRange>(std::move(node), begin, rows); }

}  // namespace ingot
