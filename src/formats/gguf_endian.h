// Tensors of big-endian GGUF files.
#pragma once

#include "tensor/node.h"

namespace ingot {

// The same values in the machine's order: numbers turned round, of blocks those that are longer than a byte (scales, sums), as ggml's structs have them.
NodePtr little_endian(NodePtr node);

}  // namespace ingot
