// The row permutation of q and k between the two conventions of rotary embedding: Hugging Face rotates halves of a head against each
// other, ggml's "normal" mode rotates neighbours.
#pragma once

#include "tensor/node.h"

namespace ingot::transform {

enum class RopeOrder {
  kToInterleaved,  // Hugging Face -> GGUF: within a head, row (k, j) of [2, d/2] becomes row (j, k)
  kToHalves,       // GGUF -> Hugging Face
};

// `heads` divides dimension 0, and a head has an even number of rows: checked here. Any element type; the rows move as
// bytes. For weights [rows, columns] and biases [rows].
Result<NodePtr> permute_rope(NodePtr node, int64_t heads, RopeOrder order);

}  // namespace ingot::transform
