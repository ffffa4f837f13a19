#include "tensor/node.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "kernels/hash.h"

namespace ingot {
namespace {

// Post-order over a shared graph; each node is hashed once.
std::string identity_of(const Node& node, std::unordered_map<const Node*, std::string>& seen) {
  if (auto it = seen.find(&node); it != seen.end()) return it->second;
  std::string text = node.describe();
  const TensorSpec s = node.spec();
  text.append("|").append(info(s.type).name).append(to_string(s.shape));
  for (const auto& in : node.inputs()) text.append("|").append(identity_of(*in, seen));
  return seen[&node] = to_hex(hash128(as_bytes(text)));
}

}  // namespace

Shape joined_granularity(const Shape& own, const Node& input) {
  Shape g = own;
  const Shape in = input.granularity();
  for (int i = 0; i < std::min(g.rank, in.rank); ++i) g[i] = std::lcm(std::max<int64_t>(g[i], 1), std::max<int64_t>(in[i], 1));
  return g;
}

Status check_region(const Node& node, const Region& region) {
  const Shape shape = node.spec().shape;
  if (region.extent.rank == shape.rank && contains(Region::all(shape), region)) return {};
  return failed("{}: asked for region {} of {}; this is a defect of ingot", node.describe(), to_string(region), to_string(shape));
}

const std::byte* resident_bytes(const Source& source, const Region& region) {
  const std::byte* all = source.resident();
  int64_t first = 0;
  if (!all || !contiguous_in(Region::all(source.spec().shape), region, &first)) return nullptr;
  return all + bytes_of(source.spec().type, first);
}

bool keeps_granularity(const Region& region, const Shape& whole, const Shape& granularity) {
  for (int i = 0; i < region.extent.rank; ++i) {
    const int64_t g = granularity[i], end = region.begin[i] + region.extent[i];
    if (g > 1 && (region.begin[i] % g || (end % g && end != whole[i]))) return false;
  }
  return true;
}

Origin origin_of(const Node& node, const Shape& index) {
  Origin o;
  o.index = index;
  node.trace(&o);
  return o;
}

Origin origin_of(const Node& node) {
  Shape first = node.spec().shape;
  for (int i = 0; i < first.rank; ++i) first[i] = 0;
  return origin_of(node, first);
}

std::string tensor_text(const Node& node, const std::string& name) {
  const Origin o = origin_of(node);
  return o.tensor.empty() ? fmt::format("'{}'", name) : fmt::format("'{}' of {}", o.tensor, o.file);
}

std::string element_text(const Node& node, const Shape& index, const std::string& name) {
  return element_text(origin_of(node, index), name);
}

std::string element_text(const Origin& o, const std::string& name) {
  if (o.tensor.empty()) return fmt::format("element {} of '{}'", to_string(o.index), name);
  return fmt::format("element {} of '{}' of {}{}", to_string(o.index), o.tensor, o.file, o.changed ? ", after the merge," : "");
}

std::string graph_identity(const Node& node) {
  std::unordered_map<const Node*, std::string> seen;
  return identity_of(node, seen);
}

uint64_t fold_offset(const Fold& fold, int index) {
  uint64_t at = 0;
  const auto specs = fold.outputs();
  for (int i = 0; i < index; ++i) at += align_up(bytes_of(specs[i]), 64);
  return at;
}

uint64_t fold_bytes(const Fold& fold) { return fold_offset(fold, static_cast<int>(fold.outputs().size())); }

Shape fold_granularity(const Fold& fold) {
  const auto inputs = fold.inputs();
  const Shape whole = inputs[0]->spec().shape;
  Shape g = inputs[0]->granularity();
  for (const auto& in : inputs)
    if (in->spec().shape == whole) g = joined_granularity(g, *in);
  return g;
}

}  // namespace ingot
