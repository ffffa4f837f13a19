// Single rows of an embedding that were trained (PEFT's trainable_token_indices).
#pragma once

#include <string>
#include <vector>

#include "tensor/node.h"

namespace ingot::transform {

// base [rows, width] with row indices[i] taken from row i of `trained` [n, width]; of an index that is there twice the last counts. In f32, F32 out. Shapes, types
// and indices were checked by the caller.
NodePtr with_rows(NodePtr base, NodePtr trained, std::vector<int64_t> indices);

}  // namespace ingot::transform
