// The row permutation of q and k from Hugging Face's convention of rotary embedding, which rotates halves of a head against
// each other, to that of ggml's "normal" mode, which rotates neighbours.
#pragma once

#include "tensor/node.h"

namespace ingot::transform {

// Within a head, row (k, j) of [2, d/2] becomes row (j, k). `heads` divides dimension 0, and a head has an even number of
// rows: checked here. Any element type; the rows move as bytes. For weights [rows, columns] and biases [rows].
Result<NodePtr> permute_rope(NodePtr node, int64_t heads);

}  // namespace ingot::transform
