#include "transform/rule_nodes.h"

#include <cstring>

#include "model/model_config.h"
#include "quant/decode.h"
#include "transform/permute.h"
#include "transform/rearrange.h"

namespace ingot::transform {
namespace {

class AddConstant final : public Node {
 public:
  AddConstant(NodePtr node, float value) : node_(std::move(node)), value_(value), spec_(node_->spec()) { spec_.type = DType::kF32; }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("add_constant v1 {:a} {}", value_, info(node_->spec().type).name); }
  std::vector<NodePtr> inputs() const override { return {node_}; }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *node_); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({node_, r, false}); }
  void trace(Origin* o) const override { o->changed = true, node_->trace(o); }
  Status compute(const Compute& c) const override {
    const int64_t n = c.region.elements();
    auto* out = reinterpret_cast<float*>(c.out.data());
    if (n && c.inputs[0].type == DType::kF32) std::memcpy(out, c.inputs[0].data, static_cast<size_t>(n) * sizeof(float));
    else if (n) find_decode(c.inputs[0].type)(c.inputs[0].data, n, out);
    for (int64_t i = 0; i < n; ++i) out[i] += value_;
    return {};
  }

 private:
  NodePtr node_;
  float value_;
  TensorSpec spec_;
};

Result<int64_t> needed(const TensorRule& rule, const std::string& text, const ParamOf& param) {
  const auto n = extent(text, param);
  if (!n) return bad_input("the model does not say '{}', which '{}' is made by", text, rule.hf[0]);
  return *n;
}

// One tensor of a rule that neither cuts nor joins; `back`: from GGUF.
Result<NodePtr> moved(const TensorRule& rule, NodePtr node, const ParamOf& param, bool back) {
  if (rule.transpose) {
    INGOT_ASSIGN(node, transpose(std::move(node)));
  }
  if (!rule.permute.empty()) {
    INGOT_ASSIGN(const int64_t heads, needed(rule, rule.permute, param));
    INGOT_ASSIGN(node, permute_rope(std::move(node), heads, back ? RopeOrder::kToHalves : RopeOrder::kToInterleaved));
  }
  if (!rule.regroup.empty()) {
    constexpr int64_t kQkv = 3;
    INGOT_ASSIGN(const int64_t heads, needed(rule, rule.regroup, param));
    INGOT_ASSIGN(node, back ? regroup_rows(std::move(node), kQkv, heads) : regroup_rows(std::move(node), heads, kQkv));
  }
  return node;
}

Result<std::vector<NodePtr>> cut(const TensorRule& rule, const NodePtr& whole, const ParamOf& param) {
  std::vector<NodePtr> out;
  int64_t at = 0;
  for (const auto& part : rule.parts) {
    INGOT_ASSIGN(const int64_t n, needed(rule, part, param));
    INGOT_ASSIGN(NodePtr node, slice(whole, rule.axis, at, n));
    out.push_back(std::move(node));
    at += n;
  }
  return out;
}

}  // namespace

NodePtr add_constant(NodePtr node, double value) {
  if (NodePtr exact = node->unrounded()) node = std::move(exact);
  return std::make_shared<AddConstant>(std::move(node), static_cast<float>(value));
}

Result<size_t> hf_count(const TensorRule& rule, const ParamOf& param) {
  if (!rule.per_expert()) return rule.hf.size();
  INGOT_ASSIGN(const int64_t n, needed(rule, "experts", param));
  return static_cast<size_t>(n);
}

Result<std::vector<NodePtr>> to_gguf_nodes(const TensorRule& rule, std::vector<NodePtr> in, const ParamOf& param) {
  if (rule.gguf.size() > 1) return cut(rule, in[0], param);
  if (rule.hf.size() > 1) {
    INGOT_ASSIGN(NodePtr joined, concatenate(std::move(in), rule.axis));
    return std::vector<NodePtr>{std::move(joined)};
  }
  for (NodePtr& node : in) {
    INGOT_ASSIGN(node, moved(rule, std::move(node), param, false));
    if (rule.add != 0) node = add_constant(std::move(node), rule.add);
  }
  if (!rule.per_expert()) return in;
  INGOT_ASSIGN(NodePtr stacked, stack(std::move(in)));
  return std::vector<NodePtr>{std::move(stacked)};
}

Result<std::vector<NodePtr>> to_hf_nodes(const TensorRule& rule, std::vector<NodePtr> in, const ParamOf& param) {
  if (rule.hf.size() > 1) return cut(rule, in[0], param);
  if (rule.gguf.size() > 1) {
    INGOT_ASSIGN(NodePtr joined, concatenate(std::move(in), rule.axis));
    return std::vector<NodePtr>{std::move(joined)};
  }
  std::vector<NodePtr> out = {in[0]};
  if (rule.per_expert()) {
    INGOT_ASSIGN(const size_t n, hf_count(rule, param));
    out.clear();
    for (size_t e = 0; e < n; ++e) {
      INGOT_ASSIGN(NodePtr one, select(in[0], static_cast<int64_t>(e)));
      out.push_back(std::move(one));
    }
  }
  for (NodePtr& node : out) {
    INGOT_ASSIGN(node, moved(rule, std::move(node), param, true));
  }
  return out;
}

}  // namespace ingot::transform
