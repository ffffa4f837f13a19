// Quantized weights of any block type times activations rounded to int8: sixteen rows at a time are taken apart into their levels (quant/levels.h), interleaved as packed.h has
// them, and multiplied with all tokens while they lie in the second-level cache. For types that have no packed form: nothing is kept.
#pragma once

#include <cstddef>
#include <cstdint>

#include "infer/packed.h"
#include "infer/weights.h"

namespace ingot {

// Whether the machine has the instructions that make it worth it, and the type is one of blocks.
bool can_multiply_levels(DType type);
// Bytes of sixteen rows that were taken apart.
int64_t level_strip_bytes(DType type, int64_t cols);
// Rows 16 * strip and on; those beyond the last are zeros.
void read_level_strip(const WeightMatrix& w, int64_t strip, std::byte* out);
// y[t, 16 * strip + r] for its rows. The same bits on any machine.
void multiply_level_strip(const WeightMatrix& w, int64_t strip, const std::byte* levels, const Int8Activations& x, float* y);

}  // namespace ingot
