// Float weights times many activations by AMX's tiles of bf16: numbers are split into two parts, x = high + low, of eight bits each, and the products of parts that matter are summed in f32
// (BF16 weights are one part, F16 weights exactly two). What is lost is 2^-16 of a factor, where int8 (packed.h) loses 2^-8;
// of numbers or products near the least that f32 has (2^-117 and below) more, as the instructions take denormals for zero. Intel's Architecture Instruction Set Extensions, chapter "Intel AMX".
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "infer/amx.h"
#include "infer/weights.h"

namespace ingot {

// F32, F16 and BF16, where the machine has the instructions.
bool can_multiply_by_tiles(DType type);

// Activations [tokens, cols] as two parts, each in tiles of 16 tokens and 32 columns, [tokens / 16][columns / 32][16][32]: rows that lie a power of two apart would meet in the first-level cache.
// Zeros up to a multiple of 32 tokens, and of 32 columns.
struct Bf16Activations {
  int64_t tokens = 0, cols = 0, stride = 0;  // stride: columns with those of zeros
  std::vector<uint16_t> high, low;

  void split(ThreadPool& pool, const float* x, int64_t tokens, int64_t cols);
};

inline constexpr int64_t kTileShare = 128;  // rows that are multiplied together at most; shares begin at multiples of 32
// Bytes that they need besides.
int64_t tile_work_bytes(const WeightMatrix& w, int64_t tokens);
// y[t, r] for n rows from `first` on. The bits of a token depend on no other token.
void multiply_by_tiles(const WeightMatrix& w, int64_t first, int64_t n, const Bf16Activations& x, std::byte* work, float* y);

}  // namespace ingot
