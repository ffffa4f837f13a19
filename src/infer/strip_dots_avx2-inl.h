// Dot products of the codes of sixteen rows with activations in int8, by AVX2: bytes are multiplied into sums of two in 16 bits, which are added up as long as they cannot overflow.
// To be included in a region with that target. Codes of a block of 32 columns as packed.h has them: [8][16 rows][4 columns], unsigned.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace ingot {
namespace {

// How many products of two fit into 16 bits, for codes up to `range`; 0: not even one (255 * 127 * 2 does not).
constexpr int adds_of(int range) { return range <= 16 ? 8 : range <= 32 ? 4 : range <= 64 ? 2 : range <= 129 ? 1 : 0; }

inline __m256i four_bytes(const int8_t* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return _mm256_set1_epi32(v);
}
inline __m256i code_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// out[token][half of the columns][rows 0 to 7, 8 to 15]; without kHalves all columns in the first. q: kT tokens, `stride` bytes apart. With kAdds == 0 the codes count from 128.
template <int kAdds, bool kHalves, int kT>
inline void dots_avx2(const uint8_t* codes, const int8_t* q, int64_t stride, __m256i (*out)[2][2]) {
  constexpr int kRun = kAdds == 0 ? 1 : kHalves && kAdds > 4 ? 4 : kAdds;  // columns of four whose 16-bit sums are added
  const __m256i ones = _mm256_set1_epi16(1), middle = _mm256_set1_epi8(-128);
  for (int t = 0; t < kT; ++t)
    for (int h = 0; h < (kHalves ? 2 : 1); ++h) out[t][h][0] = out[t][h][1] = _mm256_setzero_si256();
  for (int j = 0; j < 8; j += kRun) {
    __m256i sum[kT][2];
    for (int i = j; i < j + kRun; ++i) {
      __m256i a = code_bytes(codes + 64 * i), b = code_bytes(codes + 64 * i + 32), signs_a = a, signs_b = b;
      if constexpr (kAdds == 0) {
        signs_a = _mm256_xor_si256(a, middle), signs_b = _mm256_xor_si256(b, middle);
        a = _mm256_abs_epi8(signs_a), b = _mm256_abs_epi8(signs_b);
      }
      for (int t = 0; t < kT; ++t) {
        const __m256i x = four_bytes(q + t * stride + 4 * i);
        const __m256i pa = _mm256_maddubs_epi16(a, kAdds == 0 ? _mm256_sign_epi8(x, signs_a) : x);
        const __m256i pb = _mm256_maddubs_epi16(b, kAdds == 0 ? _mm256_sign_epi8(x, signs_b) : x);
        sum[t][0] = i == j ? pa : _mm256_add_epi16(sum[t][0], pa);
        sum[t][1] = i == j ? pb : _mm256_add_epi16(sum[t][1], pb);
      }
    }
    const int h = kHalves ? j / 4 : 0;
    for (int t = 0; t < kT; ++t)
      for (int r = 0; r < 2; ++r) out[t][h][r] = _mm256_add_epi32(out[t][h][r], _mm256_madd_epi16(sum[t][r], ones));
  }
}

}  // namespace
}  // namespace ingot
