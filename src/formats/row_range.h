// Rows of a tensor as a tensor: what is written in parts.
#pragma once

#include "tensor/node.h"

namespace ingot {

// Rows [begin, begin + rows) of the first dimension, where begin is a multiple of the node's granularity there, and so is the end unless it is the tensor's.
NodePtr row_range(NodePtr node, int64_t begin, int64_t rows);

}  // namespace ingot
