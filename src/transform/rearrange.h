// What lies between a tensor of a Hugging Face directory and one of a GGUF file: several joined or stacked, one cut, rows and columns exchanged, rows in
// another order. Bytes move as they are, of any type; blocks stay whole. Each leads back by another of these. Errors: kBadInput, where shapes or types do not
// allow it.
#pragma once

#include <vector>

#include "tensor/node.h"

namespace ingot::transform {

// Along a dimension that they have, in order. All of one type, and alike in their other dimensions.
Result<NodePtr> concatenate(std::vector<NodePtr> nodes, int axis);
// Along a new first dimension. All of one type and shape.
Result<NodePtr> stack(std::vector<NodePtr> nodes);
// [begin, begin + n) of a dimension.
Result<NodePtr> slice(NodePtr node, int axis, int64_t begin, int64_t n);
// One of the first dimension, which the result does not have.
Result<NodePtr> select(NodePtr node, int64_t index);
// [in, out] -> [out, in].
Result<NodePtr> transpose(NodePtr node);
// Rows [outer, inner, n] become [inner, outer, n]: of GPT-NeoX's fused attention, `outer` heads each with q, k and v (`inner` 3) of n rows.
Result<NodePtr> regroup_rows(NodePtr node, int64_t outer, int64_t inner);
// Rows [groups, n] of which each group gives its rows [begin, begin + take): [groups * take]. Of Megatron's fused attention the groups of queries, each with q, k and v.
Result<NodePtr> rows_of_groups(NodePtr node, int64_t groups, int64_t begin, int64_t take);

}  // namespace ingot::transform
