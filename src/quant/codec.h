// A codec turns rows of f32 into the bytes of one element type and back. One file a family in this folder,
// one row in codecs.def. Encoders are pure: the same floats, importance and effort give the same bytes on every
// machine and at any tiling (a codec never looks beyond its own row).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/types.h"

namespace ingot {

// How hard an encoder looks for the numbers of least error.
enum class Effort : uint8_t {
  kFast,    // among its first candidates
  kNormal,  // what docs/quantize.md tells errors of
  kBest,    // around what that finds, too, and with other units of the super-blocks: four to five times as long. MXFP4, TQ1_0, TQ2_0: as kNormal
};

// What an encoder is told beside the values.
struct EncodeContext {
  // nullptr, or row_len non-negative weights (the imatrix: mean of squares of each input column), the same for all rows.
  const float* importance = nullptr;
  Effort effort = Effort::kNormal;
};

struct Codec {
  DType type;
  // Enters the key of a job: raise it when the bytes for some input change.
  int version;
  // x: n_rows * row_len finite floats, row-major; row_len is a multiple of the type's block. out: n_rows * row_len / block * block bytes.
  // Thread-safe; allocates nothing.
  void (*encode)(const float* x, int64_t n_rows, int64_t row_len, const EncodeContext& how, std::byte* out);
  // n is a multiple of the block.
  void (*decode)(const std::byte* in, int64_t n, float* out);
  // Whether the type can hold NaN and infinity; block types cannot and their encoders are given finite rows
  // only.
  bool holds_nonfinite;
  // Block types: the largest |x| whose block still gets finite scales. Encoders clamp what is beyond it, so
  // that a file never holds an infinite scale; a caller that must not change values silently checks first.
  // F32 and BF16: the largest finite f32; F16: 65504 (larger values become infinity, as IEEE rounds).
  float max_abs;
};

// The codec of a type, or nullptr where ingot only carries its bytes.
const Codec* find_codec(DType t);

}  // namespace ingot
