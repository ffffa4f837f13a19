// For readers of blocks: the fields of a block, and scales that several groups of 16 columns share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cast.h"
#include "quant/levels.h"

namespace ingot {

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

// Groups [first, first + n).
inline void set_scale(Levels* l, int first, int n, float scale) {
  for (int g = first; g < first + n; ++g) l->scale[g] = scale;
}
inline void set_min(Levels* l, int first, int n, float min) {
  for (int g = first; g < first + n; ++g) l->min[g] = min;
}

}  // namespace ingot
