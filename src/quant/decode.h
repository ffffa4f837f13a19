// How the values of a type are read as f32: by its codec, and those of F64 (rounded) and the 8-bit floats, which ingot does not write.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/types.h"

namespace ingot {

using Decode = void (*)(const std::byte* in, int64_t n, float* out);
// nullptr of other types.
Decode find_decode(DType t);

}  // namespace ingot
