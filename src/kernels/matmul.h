// Small dense f32 products. The sum over k runs in index order for each output, so neither the tiling nor the
// target changes a bit.
#pragma once

#include <cstdint>

namespace ingot {

// C[m, n] = fma(scale, A[m, k] * B[k, n], C[m, n]); all row-major and contiguous. k = 0 leaves C as it is.
void matmul_add(float* c, const float* a, const float* b, int64_t m, int64_t k, int64_t n, float scale);

}  // namespace ingot
