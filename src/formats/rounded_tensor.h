// Float32 values as a narrower float type: what a module holds where only the copies that its optimizer steps are saved.
#pragma once

#include "tensor/node.h"

namespace ingot {

// The node itself where it has the type, or is no float32. Whoever casts it further takes the unrounded values.
NodePtr rounded_tensor(NodePtr wide, DType type);

}  // namespace ingot
