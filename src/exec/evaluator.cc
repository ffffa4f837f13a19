#include "exec/evaluator.h"

#include <cstring>

namespace ingot {

View view_of(const std::byte* data, const Region& held, DType type, const Region& region, Arena& arena) {
  int64_t first = 0;
  if (contiguous_in(held, region, &first)) return {data + bytes_of(type, first), region, type};
  std::byte* out = arena.allocate(bytes_of(type, region.elements()));
  for_each_run(held, region, [&](int64_t at, int64_t to, int64_t n) {
    std::memcpy(out + bytes_of(type, to), data + bytes_of(type, at), bytes_of(type, n));
  });
  return {out, region, type};
}

Result<View> Evaluator::eval(const Node& node, const Region& region, std::byte* into) {
  for (const auto& k : memo_)
    if (k.node == &node && k.view.region == region) {
      if (into && into != k.view.data) std::memcpy(into, k.view.data, bytes_of(k.view.type, region.elements()));
      return k.view;
    }
  View out;
  if (auto* leaf = dynamic_cast<const LeafNode*>(&node)) {
    INGOT_ASSIGN(out, provider_.leaf(*leaf, region, arena_));
  } else if (auto* group = dynamic_cast<const GroupOutput*>(&node)) {
    INGOT_ASSIGN(out, provider_.group(*group, region, arena_));
  } else {
    // A node above that forgot what its input asks for would make wrong bytes in silence.
    if (!keeps_granularity(region, node.spec_with(facts_).shape, node.granularity()))
      return failed("{}: asked for region {}, which is not in multiples of {}; this is a defect of ingot", node.describe(),
                    to_string(region), to_string(node.granularity()));
    std::vector<Need> needs;
    node.needs(region, &needs);
    std::vector<View> inputs;
    inputs.reserve(needs.size());
    for (const auto& need : needs) {
      INGOT_ASSIGN(View v, need.broadcast ? provider_.broadcast(need, arena_) : eval(*need.node, need.region));
      inputs.push_back(v);
    }
    const DType type = node.spec().type;
    const uint64_t bytes = bytes_of(type, region.elements());
    std::byte* data = into ? into : arena_.allocate(bytes);
    const uint64_t ws = node.workspace(region);
    std::byte* workspace = ws ? arena_.allocate(ws) : nullptr;
    INGOT_TRY(node.compute({region, inputs, {data, bytes}, {workspace, ws}, facts_}));
    out = {data, region, type};
  }
  if (into && into != out.data) std::memcpy(into, out.data, bytes_of(out.type, region.elements()));
  memo_.push_back({&node, out});
  return out;
}

}  // namespace ingot
