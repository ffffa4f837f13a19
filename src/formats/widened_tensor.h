// Values as float32, as torch's Tensor.float() has them.
#pragma once

#include "tensor/node.h"

namespace ingot {

// The node itself where it is float32; null of a type that has no such values here (complex numbers, blocks).
NodePtr widened_tensor(NodePtr node);

}  // namespace ingot
