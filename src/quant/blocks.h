// For decoders: block after block through one function, and the fields of a block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cast.h"

namespace ingot {

// Calls one(block's bytes, block's values) for each block of n values.
template <int kValues, int kBytes, class One>
void each_block(const std::byte* in, int64_t n, float* out, One one) {
  for (int64_t i = 0; i < n; i += kValues, in += kBytes) one(reinterpret_cast<const uint8_t*>(in), out + i);
}

// Little-endian, at any address.
template <class T>
T field(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline float half(uint16_t h) {
  float f;
  f16_to_f32(&h, 1, &f);
  return f;
}
inline float half(const uint8_t* p) { return half(field<uint16_t>(p)); }

}  // namespace ingot
