// How the values of a type are read as f32: by its codec, and those of types that ingot does not write: Q1_0, Q2_0, Q8_1, Q8_K of GGUF, F64 (rounded), the 8-bit floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tensor/types.h"

namespace ingot {

using Decode = void (*)(const std::byte* in, int64_t n, float* out);
// nullptr of other types.
Decode find_decode(DType t);
// "Q4_Kv1": the type and the version of how its values are read, for the key of a job.
std::string read_tag(DType t);

#define DECODER(type, name, low, high, min, halves) void decode_##name(const std::byte* in, int64_t n, float* out);
#define READER(type, name, low, high, min, halves)
#include "quant/decoders.def"
#undef READER
#undef DECODER

}  // namespace ingot
