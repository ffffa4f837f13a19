// Sixteen f32 lanes in two 256-bit registers; the operations are documented in simd_scalar.h.
#pragma once

#include <cstdint>

namespace ingot {
namespace avx2 {

struct F32 {
  __m256 lo, hi;
};
struct I32 {
  __m256i lo, hi;
};
struct Mask {
  __m256 lo, hi;
};

#define INGOT_INLINE __attribute__((always_inline)) inline
#define INGOT_OP(R, name, params, expr_lo, expr_hi) \
  INGOT_INLINE R name params { return R{expr_lo, expr_hi}; }
#define INGOT_UNARY(R, A, name, f) INGOT_OP(R, name, (A a), f(a.lo), f(a.hi))
#define INGOT_BINARY(R, A, name, f) INGOT_OP(R, name, (A a, A b), f(a.lo, b.lo), f(a.hi, b.hi))
#define INGOT_COMPARE(name, c) \
  INGOT_OP(Mask, name, (F32 a, F32 b), _mm256_cmp_ps(a.lo, b.lo, c), _mm256_cmp_ps(a.hi, b.hi, c))

INGOT_OP(F32, load, (const float* p), _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8))
INGOT_INLINE void store(float* p, F32 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
INGOT_OP(F32, splat, (float x), _mm256_set1_ps(x), _mm256_set1_ps(x))
INGOT_OP(I32, splat_i, (int32_t x), _mm256_set1_epi32(x), _mm256_set1_epi32(x))
INGOT_BINARY(F32, F32, operator+, _mm256_add_ps)
INGOT_BINARY(F32, F32, operator-, _mm256_sub_ps)
INGOT_BINARY(F32, F32, operator*, _mm256_mul_ps)
INGOT_BINARY(F32, F32, operator/, _mm256_div_ps)
INGOT_OP(F32, fma, (F32 a, F32 b, F32 c), _mm256_fmadd_ps(a.lo, b.lo, c.lo),
         _mm256_fmadd_ps(a.hi, b.hi, c.hi))
INGOT_OP(F32, fnma, (F32 a, F32 b, F32 c), _mm256_fnmadd_ps(a.lo, b.lo, c.lo),
         _mm256_fnmadd_ps(a.hi, b.hi, c.hi))
INGOT_BINARY(F32, F32, min, _mm256_min_ps)
INGOT_BINARY(F32, F32, max, _mm256_max_ps)
INGOT_INLINE F32 abs(F32 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return F32{_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
INGOT_OP(F32, round, (F32 a), _mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
         _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
INGOT_COMPARE(operator<, _CMP_LT_OQ)
INGOT_COMPARE(operator>, _CMP_GT_OQ)
INGOT_OP(Mask, is_nan, (F32 a), _mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q),
         _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q))
INGOT_OP(F32, select, (Mask m, F32 a, F32 b), _mm256_blendv_ps(b.lo, a.lo, m.lo),
         _mm256_blendv_ps(b.hi, a.hi, m.hi))
INGOT_OP(I32, select, (Mask m, I32 a, I32 b), _mm256_blendv_epi8(b.lo, a.lo, _mm256_castps_si256(m.lo)),
         _mm256_blendv_epi8(b.hi, a.hi, _mm256_castps_si256(m.hi)))

INGOT_UNARY(I32, F32, to_int, _mm256_cvtps_epi32)
INGOT_UNARY(F32, I32, to_float, _mm256_cvtepi32_ps)
INGOT_UNARY(I32, F32, bits, _mm256_castps_si256)
INGOT_UNARY(F32, I32, from_bits, _mm256_castsi256_ps)
INGOT_BINARY(I32, I32, operator+, _mm256_add_epi32)
INGOT_BINARY(I32, I32, operator-, _mm256_sub_epi32)
INGOT_BINARY(I32, I32, operator&, _mm256_and_si256)
INGOT_BINARY(I32, I32, operator|, _mm256_or_si256)
INGOT_OP(Mask, equal, (I32 a, I32 b), _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.lo, b.lo)),
         _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.hi, b.hi)))
template <int N>
INGOT_OP(I32, shl, (I32 a), _mm256_slli_epi32(a.lo, N), _mm256_slli_epi32(a.hi, N))
template <int N>
INGOT_OP(I32, shr, (I32 a), _mm256_srli_epi32(a.lo, N), _mm256_srli_epi32(a.hi, N))
INGOT_INLINE uint32_t to_bits(Mask m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(m.lo)) | static_cast<uint32_t>(_mm256_movemask_ps(m.hi))
                                                               << 8;
}

INGOT_INLINE I32 load_u8(const uint8_t* p) {
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return I32{_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))};
}
INGOT_INLINE I32 load_i8(const int8_t* p) {
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return I32{_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))};
}
// The low 16 bits of each lane, in lane order.
INGOT_INLINE __m256i narrow16(I32 a) {
  const __m256i m = _mm256_set1_epi32(0xffff);
  const __m256i p = _mm256_packus_epi32(_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m));
  return _mm256_permute4x64_epi64(p, 0xd8);
}
INGOT_INLINE void store_u8(uint8_t* p, I32 a) {
  const __m256i m = _mm256_set1_epi32(0xff);
  const __m256i w = narrow16(I32{_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)});
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
INGOT_INLINE I32 load_u16(const void* p) {
  const __m128i* q = static_cast<const __m128i*>(p);
  return I32{_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))};
}
INGOT_INLINE void store_u16(void* p, I32 a) { _mm256_storeu_si256(static_cast<__m256i*>(p), narrow16(a)); }
INGOT_INLINE F32 load_f16(const void* p) {
  const __m128i* q = static_cast<const __m128i*>(p);
  return F32{_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
INGOT_INLINE void store_f16(void* p, F32 a) {
  __m128i* q = static_cast<__m128i*>(p);
  _mm_storeu_si128(q, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(q + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// The fourth bit of an index, moved to the sign, chooses between the table's halves.
INGOT_INLINE __m256 lookup_eight(__m256 low, __m256 high, __m256i i) {
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, i), _mm256_permutevar8x32_ps(high, i), _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}
INGOT_INLINE F32 lookup(const float* table, I32 a) {
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
  return F32{lookup_eight(low, high, a.lo), lookup_eight(low, high, a.hi)};
}

INGOT_INLINE F32 lookup8(const float* table, I32 a) {
  const __m256 t = _mm256_loadu_ps(table);
  return F32{_mm256_permutevar8x32_ps(t, a.lo), _mm256_permutevar8x32_ps(t, a.hi)};
}
INGOT_INLINE I32 gather(const uint32_t* table, I32 a) {
  const int* t = reinterpret_cast<const int*>(table);
  return I32{_mm256_i32gather_epi32(t, a.lo, 4), _mm256_i32gather_epi32(t, a.hi, 4)};
}

INGOT_INLINE void transpose8(__m256 (&r)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i + 0] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int k = 0; k < 4; ++k) {
    r[k] = _mm256_permute2f128_ps(u[k], u[4 + k], 0x20);
    r[4 + k] = _mm256_permute2f128_ps(u[k], u[4 + k], 0x31);
  }
}
INGOT_INLINE void transpose(F32 (&r)[16]) {
  __m256 a[8], b[8], c[8], d[8];
  for (int i = 0; i < 8; ++i) {
    a[i] = r[i].lo;
    b[i] = r[i].hi;
    c[i] = r[8 + i].lo;
    d[i] = r[8 + i].hi;
  }
  transpose8(a);
  transpose8(b);
  transpose8(c);
  transpose8(d);
  for (int i = 0; i < 8; ++i) {
    r[i] = F32{a[i], c[i]};
    r[8 + i] = F32{b[i], d[i]};
  }
}

INGOT_INLINE float sum_lanes(F32 a) {
  const __m256 s = _mm256_add_ps(a.lo, a.hi);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
  return _mm_cvtss_f32(q);
}

#undef INGOT_INLINE
#undef INGOT_OP
#undef INGOT_UNARY
#undef INGOT_BINARY
#undef INGOT_COMPARE

}  // namespace avx2
}  // namespace ingot
