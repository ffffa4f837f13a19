// matmul_add in register tiles of a few rows by 16 columns.
#include "kernels/matmul.h"

#include <algorithm>

#define INGOT_TARGET_FILE "kernels/matmul.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

// As many accumulators as the registers hold; the result does not depend on it.
#if INGOT_TARGET_ID == 1
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 8;
#endif

template <int kRows>
inline void tile(float* c, const float* a, const float* b, int64_t k, int64_t n, F32 scale) {
  F32 acc[kRows];
  for (int r = 0; r < kRows; ++r) acc[r] = splat(0.0f);
  for (int64_t j = 0; j < k; ++j) {
    const F32 bj = load(b + j * n);
    for (int r = 0; r < kRows; ++r) acc[r] = fma(splat(a[r * k + j]), bj, acc[r]);
  }
  for (int r = 0; r < kRows; ++r) store(c + r * n, fma(scale, acc[r], load(c + r * n)));
}

template <int kRows>
inline void rows(float* c, const float* a, const float* b, int64_t k, int64_t n, int64_t n0, int64_t n1,
                 float scale) {
  const F32 s = splat(scale);
  int64_t j = n0;
  for (; j + 16 <= n1; j += 16) tile<kRows>(c + j, a, b + j, k, n, s);
  for (; j < n1; ++j)
    for (int r = 0; r < kRows; ++r) {
      float acc = 0;
      for (int64_t i = 0; i < k; ++i) acc = __builtin_fmaf(a[r * k + i], b[i * n + j], acc);
      c[r * n + j] = __builtin_fmaf(scale, acc, c[r * n + j]);
    }
}

void matmul_add_impl(float* c, const float* a, const float* b, int64_t m, int64_t k, int64_t n, float scale) {
  // A panel of B that stays in the first-level cache (16 KiB) while all rows pass over it.
  const int64_t panel = std::max<int64_t>(16, 4096 / std::max<int64_t>(k, 1) / 16 * 16);
  for (int64_t n0 = 0; n0 < n; n0 += panel) {
    const int64_t n1 = std::min(n, n0 + panel);
    int64_t i = 0;
    for (; i + kTileRows <= m; i += kTileRows) rows<kTileRows>(c + i * n, a + i * k, b, k, n, n0, n1, scale);
    for (; i < m; ++i) rows<1>(c + i * n, a + i * k, b, k, n, n0, n1, scale);
  }
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {

void matmul_add(float* c, const float* a, const float* b, int64_t m, int64_t k, int64_t n, float scale) {
  if (k > 0) INGOT_DISPATCH(matmul_add_impl)(c, a, b, m, k, n, scale);
}

}  // namespace ingot
#endif
