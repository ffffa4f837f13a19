#include "transform/rearrange.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace ingot::transform {
namespace {

// The least region around `r` that a node serves.
Region served(const Node& node, Region r) {
  const Shape g = node.granularity(), whole = node.spec().shape;
  for (int i = 0; i < r.extent.rank; ++i) {
    const int64_t begin = r.begin[i] / g[i] * g[i], end = r.begin[i] + r.extent[i];
    r.extent[i] = std::min(whole[i], (end + g[i] - 1) / g[i] * g[i]) - begin;
    r.begin[i] = begin;
  }
  return r;
}

// `part` of a view into the place that it has in `out`, which is packed; both of one rank.
void copy_box(const View& from, const Region& part, const Region& out, const Region& part_in_out, std::byte* to) {
  // Runs that are contiguous on both sides: the trailing dimensions that are whole in both.
  const int rank = part.extent.rank;
  int64_t run = 1;
  int d = rank;
  while (d > 0) {
    --d;
    run *= part.extent[d];
    if (part.extent[d] != from.region.extent[d] || part.extent[d] != out.extent[d]) break;
  }
  if (part.elements() == 0) return;
  std::array<int64_t, kMaxDims> idx{};
  for (;;) {
    int64_t at = 0, there = 0;
    for (int i = 0; i < rank; ++i) {
      at = at * from.region.extent[i] + part.begin[i] - from.region.begin[i] + idx[i];
      there = there * out.extent[i] + part_in_out.begin[i] - out.begin[i] + idx[i];
    }
    std::memcpy(to + bytes_of(from.type, there), from.data + bytes_of(from.type, at), bytes_of(from.type, run));
    int i = d - 1;
    for (; i >= 0; --i) {
      if (++idx[i] < part.extent[i]) break;
      idx[i] = 0;
    }
    if (i < 0) return;
  }
}

Region without_first(const Region& r) {
  Region out;
  for (int i = 1; i < r.extent.rank; ++i) out.begin.push_back(r.begin[i]), out.extent.push_back(r.extent[i]);
  return out;
}

Shape with_first(const Shape& s, int64_t n) {
  Shape out{n};
  for (int i = 0; i < s.rank; ++i) out.push_back(s[i]);
  return out;
}

// Each of the nodes before it was rounded; null where one has only what it has.
std::vector<NodePtr> all_unrounded(const std::vector<NodePtr>& nodes) {
  std::vector<NodePtr> out;
  for (const auto& n : nodes)
    if (NodePtr exact = n->unrounded()) out.push_back(std::move(exact));
  if (out.size() != nodes.size()) out.clear();
  return out;
}

class Concatenated final : public Node {
 public:
  Concatenated(std::vector<NodePtr> nodes, int axis, TensorSpec spec) : nodes_(std::move(nodes)), axis_(axis), spec_(spec) {
    for (const auto& n : nodes_) begins_.push_back(begins_.empty() ? 0 : begins_.back() + last_), last_ = n->spec().shape[axis_];
    if (auto exact = all_unrounded(nodes_); !exact.empty()) {
      TensorSpec s = spec_;
      s.type = exact[0]->spec().type;
      unrounded_ = std::make_shared<Concatenated>(std::move(exact), axis_, s);
    }
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("concatenate v1 axis {}", axis_); }
  std::vector<NodePtr> inputs() const override { return nodes_; }
  NodePtr unrounded() const override { return unrounded_; }
  Shape granularity() const override {
    Shape g = Node::granularity();
    for (const auto& n : nodes_) {
      const Shape other = n->granularity();
      for (int i = 0; i < g.rank; ++i)
        if (i != axis_) g[i] = std::lcm(g[i], other[i]);
    }
    for (int i = 0; i < g.rank; ++i) g[i] = std::min(g[i], std::max<int64_t>(spec_.shape[i], 1));
    return g;
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    for (size_t k = 0; k < nodes_.size(); ++k)
      if (const auto part = part_of(k, r); part.extent[axis_] > 0) out->push_back({nodes_[k], served(*nodes_[k], moved(part, k, -1)), false});
  }
  void trace(Origin* o) const override {
    size_t k = nodes_.size() - 1;
    while (k > 0 && begins_[k] > o->index[axis_]) --k;
    o->index[axis_] -= begins_[k];
    nodes_[k]->trace(o);
  }
  Status compute(const Compute& c) const override {
    size_t input = 0;
    for (size_t k = 0; k < nodes_.size(); ++k)
      if (const auto part = part_of(k, c.region); part.extent[axis_] > 0) copy_box(c.inputs[input++], moved(part, k, -1), c.region, part, c.out.data());
    return {};
  }

 private:
  // What of r node k has.
  Region part_of(size_t k, Region r) const {
    const int64_t end = std::min(r.begin[axis_] + r.extent[axis_], begins_[k] + nodes_[k]->spec().shape[axis_]);
    r.begin[axis_] = std::max(r.begin[axis_], begins_[k]);
    r.extent[axis_] = std::max<int64_t>(0, end - r.begin[axis_]);
    return r;
  }
  Region moved(Region r, size_t k, int64_t sign) const {
    r.begin[axis_] += sign * begins_[k];
    return r;
  }
  std::vector<NodePtr> nodes_;
  int axis_;
  TensorSpec spec_;
  std::vector<int64_t> begins_;
  int64_t last_ = 0;
  NodePtr unrounded_;
};

class Stacked final : public Node {
 public:
  explicit Stacked(std::vector<NodePtr> nodes) : nodes_(std::move(nodes)), spec_(nodes_[0]->spec()) {
    spec_.shape = with_first(spec_.shape, static_cast<int64_t>(nodes_.size()));
    if (auto exact = all_unrounded(nodes_); !exact.empty()) unrounded_ = std::make_shared<Stacked>(std::move(exact));
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "stack v1"; }
  std::vector<NodePtr> inputs() const override { return nodes_; }
  NodePtr unrounded() const override { return unrounded_; }
  Shape granularity() const override {
    Shape g = nodes_[0]->granularity();
    for (const auto& n : nodes_) g = joined_granularity(g, *n);
    return with_first(g, 1);
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    for (int64_t e = 0; e < r.extent[0]; ++e) out->push_back({nodes_[static_cast<size_t>(r.begin[0] + e)], without_first(r), false});
  }
  void trace(Origin* o) const override {
    const auto k = static_cast<size_t>(o->index[0]);
    o->index = without_first({o->index, o->index}).begin;
    nodes_[k]->trace(o);
  }
  Status compute(const Compute& c) const override {
    std::byte* to = c.out.data();
    for (const View& v : c.inputs) {
      const uint64_t n = bytes_of(v.type, v.region.elements());
      if (n) std::memcpy(to, v.data, n);
      to += n;
    }
    return {};
  }

 private:
  std::vector<NodePtr> nodes_;
  TensorSpec spec_;
  NodePtr unrounded_;
};

// A box of the input; `drop`: of one index along the first dimension, which goes.
class Sliced final : public Node {
 public:
  Sliced(NodePtr node, int axis, int64_t begin, int64_t n, bool drop) : node_(std::move(node)), axis_(axis), begin_(begin), drop_(drop), spec_(node_->spec()) {
    spec_.shape[axis_] = n;
    if (drop_) spec_.shape = without_first({spec_.shape, spec_.shape}).begin;
    if (NodePtr exact = node_->unrounded()) unrounded_ = std::make_shared<Sliced>(std::move(exact), axis, begin, n, drop);
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("slice v1 axis {} from {} drop {}", axis_, begin_, drop_); }
  std::vector<NodePtr> inputs() const override { return {node_}; }
  NodePtr unrounded() const override { return unrounded_; }
  Shape granularity() const override {
    Shape g = node_->granularity();
    if (!drop_) g[axis_] = axis_ == g.rank - 1 ? info(spec_.type).block : 1;
    if (drop_) g = without_first({g, g}).begin;
    const Shape own = Node::granularity();
    for (int i = 0; i < g.rank; ++i) g[i] = std::min(std::lcm(g[i], own[i]), std::max<int64_t>(spec_.shape[i], 1));
    return g;
  }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({node_, served(*node_, inner(r)), false}); }
  void trace(Origin* o) const override {
    o->index = inner({o->index, o->index}).begin;
    node_->trace(o);
  }
  Status compute(const Compute& c) const override {
    const Region part = inner(c.region);
    Region out = part;  // the same box, packed
    copy_box(c.inputs[0], part, out, part, c.out.data());
    return {};
  }

 private:
  Region inner(const Region& r) const {
    Region in = drop_ ? Region{with_first(r.begin, 0), with_first(r.extent, 1)} : r;
    in.begin[axis_] += begin_;
    return in;
  }
  NodePtr node_;
  int axis_;
  int64_t begin_;
  bool drop_;
  TensorSpec spec_;
  NodePtr unrounded_;
};

class Transposed final : public Node {
 public:
  explicit Transposed(NodePtr node) : node_(std::move(node)), spec_(node_->spec()) {
    std::swap(spec_.shape[0], spec_.shape[1]);
    if (NodePtr exact = node_->unrounded()) unrounded_ = std::make_shared<Transposed>(std::move(exact));
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "transpose v1"; }
  std::vector<NodePtr> inputs() const override { return {node_}; }
  NodePtr unrounded() const override { return unrounded_; }
  Shape granularity() const override {
    const Shape g = node_->granularity();
    return {g[1], g[0]};
  }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({node_, {{r.begin[1], r.begin[0]}, {r.extent[1], r.extent[0]}}, false}); }
  void trace(Origin* o) const override {
    std::swap(o->index[0], o->index[1]);
    node_->trace(o);
  }
  Status compute(const Compute& c) const override {
    switch (info(spec_.type).bytes) {
      case 1: return turn<uint8_t>(c);
      case 2: return turn<uint16_t>(c);
      case 4: return turn<uint32_t>(c);
      default: return turn<uint64_t>(c);
    }
  }

 private:
  // In squares, so that both sides stay within a few cache lines at a time.
  template <class T>
  static Status turn(const Compute& c) {
    constexpr int64_t kSide = 16;
    const auto* in = reinterpret_cast<const T*>(c.inputs[0].data);
    auto* out = reinterpret_cast<T*>(c.out.data());
    const int64_t rows = c.region.extent[0], cols = c.region.extent[1];
    for (int64_t i = 0; i < rows; i += kSide)
      for (int64_t k = 0; k < cols; k += kSide)
        for (int64_t y = i; y < std::min(rows, i + kSide); ++y)
          for (int64_t x = k; x < std::min(cols, k + kSide); ++x) out[y * cols + x] = in[x * rows + y];
    return {};
  }
  NodePtr node_, unrounded_;
  TensorSpec spec_;
};

// Rows in another order: `run` of them at a time are neighbours in the input, too.
class MovedRows : public Node {
 public:
  MovedRows(NodePtr node, NodePtr unrounded, int64_t rows, int64_t run) : node_(std::move(node)), unrounded_(std::move(unrounded)), run_(run), spec_(node_->spec()) {
    spec_.shape[0] = rows;
  }
  TensorSpec spec() const override { return spec_; }
  std::vector<NodePtr> inputs() const override { return {node_}; }
  NodePtr unrounded() const override { return unrounded_; }
  Shape granularity() const override {
    const Shape g = node_->granularity();
    Shape own = Node::granularity();
    for (int i = 1; i < g.rank; ++i) own[i] = g[i];
    return own;
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    for_each_piece(r, [&](Region piece, int64_t) { out->push_back({node_, served(*node_, piece), false}); });
  }
  void trace(Origin* o) const override {
    o->index[0] = source_row(o->index[0]);
    node_->trace(o);
  }
  Status compute(const Compute& c) const override {
    size_t input = 0;
    for_each_piece(c.region, [&](const Region& piece, int64_t at) {
      copy_box(c.inputs[input++], piece, piece, piece, c.out.data() + bytes_of(spec_.type, at * (c.region.elements() / c.region.extent[0])));
    });
    return {};
  }

 protected:
  virtual int64_t source_row(int64_t row) const = 0;

 private:
  // `at` is the place of a piece's first row in the region.
  template <class F>
  void for_each_piece(const Region& r, F f) const {
    for (int64_t at = 0; at < r.extent[0];) {
      const int64_t row = r.begin[0] + at, rows = std::min(r.extent[0] - at, run_ - row % run_);
      Region piece = r;
      piece.begin[0] = source_row(row), piece.extent[0] = rows;
      f(piece, at);
      at += rows;
    }
  }
  NodePtr node_, unrounded_;
  int64_t run_;
  TensorSpec spec_;
};

class Regrouped final : public MovedRows {
 public:
  Regrouped(NodePtr node, int64_t outer, int64_t inner) : Regrouped(node, node->unrounded(), node->spec().shape[0], outer, inner) {}
  std::string describe() const override { return fmt::format("regroup v1 {} {}", outer_, inner_); }

 private:
  Regrouped(const NodePtr& node, const NodePtr& exact, int64_t rows, int64_t outer, int64_t inner)
      : MovedRows(node, exact ? std::make_shared<Regrouped>(exact, outer, inner) : nullptr, rows, rows / (outer * inner)), outer_(outer), inner_(inner), n_(rows / (outer * inner)) {}
  int64_t source_row(int64_t row) const override {
    const int64_t group = row / n_, k = row % n_;
    return (group % outer_ * inner_ + group / outer_) * n_ + k;
  }
  int64_t outer_, inner_, n_;
};

class GroupRows final : public MovedRows {
 public:
  GroupRows(NodePtr node, int64_t groups, int64_t begin, int64_t take) : GroupRows(node, node->unrounded(), groups, begin, take) {}
  std::string describe() const override { return fmt::format("group rows v1 {} of {} from {}", take_, group_, begin_); }

 private:
  GroupRows(const NodePtr& node, const NodePtr& exact, int64_t groups, int64_t begin, int64_t take)
      : MovedRows(node, exact ? std::make_shared<GroupRows>(exact, groups, begin, take) : nullptr, groups * take, take), begin_(begin), take_(take), group_(node->spec().shape[0] / groups) {}
  int64_t source_row(int64_t row) const override { return row / take_ * group_ + begin_ + row % take_; }
  int64_t begin_, take_, group_;
};

// Of the last dimension a block may not be cut.
Status check_blocks(const TensorSpec& s, int axis, int64_t at, const char* what) {
  if (axis == s.shape.rank - 1 && at % info(s.type).block != 0) return bad_input("{}: rows of {} cannot be cut at element {}", what, info(s.type).name, at);
  return {};
}

}  // namespace

Result<NodePtr> concatenate(std::vector<NodePtr> nodes, int axis) {
  if (nodes.empty()) return bad_input("joining: there is nothing to join");
  TensorSpec spec = nodes[0]->spec();
  if (axis < 0 || axis >= spec.shape.rank) return bad_input("joining: {} has no dimension {}", to_string(spec.shape), axis);
  for (size_t k = 1; k < nodes.size(); ++k) {
    const TensorSpec s = nodes[k]->spec();
    Shape alike = s.shape;
    if (alike.rank == spec.shape.rank) alike[axis] = spec.shape[axis];
    if (!(alike == spec.shape) || s.type != spec.type)
      return bad_input("joining: {} {} and {} {} do not go together", info(spec.type).name, to_string(nodes[0]->spec().shape), info(s.type).name, to_string(s.shape));
    INGOT_TRY(check_blocks(spec, axis, spec.shape[axis], "joining"));
    spec.shape[axis] += s.shape[axis];
  }
  if (nodes.size() == 1) return nodes[0];
  return NodePtr(std::make_shared<Concatenated>(std::move(nodes), axis, spec));
}

Result<NodePtr> stack(std::vector<NodePtr> nodes) {
  if (nodes.empty()) return bad_input("stacking: there is nothing to stack");
  const TensorSpec spec = nodes[0]->spec();
  if (spec.shape.rank + 1 > kMaxDims) return bad_input("stacking: {} has too many dimensions", to_string(spec.shape));
  for (const auto& n : nodes)
    if (!(n->spec() == spec))
      return bad_input("stacking: {} {} and {} {} do not go together", info(spec.type).name, to_string(spec.shape), info(n->spec().type).name, to_string(n->spec().shape));
  return NodePtr(std::make_shared<Stacked>(std::move(nodes)));
}

Result<NodePtr> slice(NodePtr node, int axis, int64_t begin, int64_t n) {
  const TensorSpec s = node->spec();
  if (axis < 0 || axis >= s.shape.rank || begin < 0 || n < 0 || begin > s.shape[axis] - n)
    return bad_input("cutting: {} has no {} to {} along dimension {}", to_string(s.shape), begin, begin + n, axis);
  INGOT_TRY(check_blocks(s, axis, begin, "cutting"));
  INGOT_TRY(check_blocks(s, axis, n, "cutting"));
  return NodePtr(std::make_shared<Sliced>(std::move(node), axis, begin, n, false));
}

Result<NodePtr> select(NodePtr node, int64_t index) {
  const TensorSpec s = node->spec();
  if (s.shape.rank < 2 || index < 0 || index >= s.shape[0]) return bad_input("choosing: {} has no number {}", to_string(s.shape), index);
  return NodePtr(std::make_shared<Sliced>(std::move(node), 0, index, 1, true));
}

Result<NodePtr> transpose(NodePtr node) {
  const TensorSpec s = node->spec();
  if (s.shape.rank != 2 || is_block_type(s.type) || (info(s.type).bytes & (info(s.type).bytes - 1)) || info(s.type).bytes > 8)
    return bad_input("turning: {} {} cannot be transposed", info(s.type).name, to_string(s.shape));
  return NodePtr(std::make_shared<Transposed>(std::move(node)));
}

Result<NodePtr> regroup_rows(NodePtr node, int64_t outer, int64_t inner) {
  const TensorSpec s = node->spec();
  if (s.shape.rank < 1 || outer < 1 || inner < 1 || s.shape[0] == 0 || s.shape[0] % outer || s.shape[0] / outer % inner)
    return bad_input("regrouping: {} rows are no {} groups of {}", s.shape.rank ? s.shape[0] : 0, outer, inner);
  if (s.shape.rank == 1 && is_block_type(s.type)) return bad_input("regrouping: the elements of a 1-D {} tensor cannot be moved", info(s.type).name);
  return NodePtr(std::make_shared<Regrouped>(std::move(node), outer, inner));
}

Result<NodePtr> rows_of_groups(NodePtr node, int64_t groups, int64_t begin, int64_t take) {
  const TensorSpec s = node->spec();
  if (s.shape.rank < 1 || groups < 1 || begin < 0 || take < 1 || s.shape[0] % groups || s.shape[0] / groups - begin < take)
    return bad_input("cutting: {} rows are no {} groups that each have rows {} to {}", s.shape.rank ? s.shape[0] : 0, groups, begin, begin + take);
  if (s.shape.rank == 1 && is_block_type(s.type)) return bad_input("cutting: the elements of a 1-D {} tensor cannot be moved", info(s.type).name);
  return NodePtr(std::make_shared<GroupRows>(std::move(node), groups, begin, take));
}

}  // namespace ingot::transform
