// The one place where the blocks of a type are taken apart: values as small integers, value = scale * level - min with a scale and a min for each 16 columns. What is decoded is made of
// that (decode.h), and what the engine multiplies (infer/packed.cc).
#pragma once

#include <cstdint>

#include "tensor/types.h"

namespace ingot {

// One block, at most 256 values. Scales and minima are products of an f16 and a small integer, exact in f32.
struct Levels {
  int8_t level[256];
  float scale[16];
  float min[16];    // only of types with minima
  float d, dmin;    // what all scales and all minima of the block are multiples of, where the type has such
};

struct LevelReader {
  DType type;
  void (*read)(const uint8_t* block, Levels* out);
  int low, high;  // the least and the greatest level
  bool min;     // whether there are minima
  bool halves;  // whether each 16 columns have a scale of their own; else 32 or more share one
};
// nullptr of types that are no blocks.
const LevelReader* find_levels(DType type);

#define DECODER(type, name, low, high, min, halves) void levels_##name(const uint8_t* block, Levels* out);
#define READER DECODER
#include "quant/decoders.def"
#undef READER
#undef DECODER

}  // namespace ingot
