// Sixteen f32 lanes in one 512-bit register; the operations are documented in simd_scalar.h.
#pragma once

#include <cstdint>

namespace ingot {
namespace avx512 {

struct F32 {
  __m512 v;
};
struct I32 {
  __m512i v;
};
struct Mask {
  __mmask16 v;
};

#define INGOT_OP(R, name, params, expr) \
  __attribute__((always_inline)) inline R name params { return R{expr}; }
#define INGOT_DO(name, params, stmt) \
  __attribute__((always_inline)) inline void name params { stmt; }

INGOT_OP(F32, load, (const float* p), _mm512_loadu_ps(p))
INGOT_DO(store, (float* p, F32 a), _mm512_storeu_ps(p, a.v))
INGOT_OP(F32, splat, (float x), _mm512_set1_ps(x))
INGOT_OP(I32, splat_i, (int32_t x), _mm512_set1_epi32(x))
INGOT_OP(F32, operator+, (F32 a, F32 b), _mm512_add_ps(a.v, b.v))
INGOT_OP(F32, operator-, (F32 a, F32 b), _mm512_sub_ps(a.v, b.v))
INGOT_OP(F32, operator*, (F32 a, F32 b), _mm512_mul_ps(a.v, b.v))
INGOT_OP(F32, operator/, (F32 a, F32 b), _mm512_div_ps(a.v, b.v))
INGOT_OP(F32, fma, (F32 a, F32 b, F32 c), _mm512_fmadd_ps(a.v, b.v, c.v))
INGOT_OP(F32, fnma, (F32 a, F32 b, F32 c), _mm512_fnmadd_ps(a.v, b.v, c.v))
INGOT_OP(F32, min, (F32 a, F32 b), _mm512_min_ps(a.v, b.v))
INGOT_OP(F32, max, (F32 a, F32 b), _mm512_max_ps(a.v, b.v))
INGOT_OP(F32, abs, (F32 a), _mm512_abs_ps(a.v))
INGOT_OP(F32, round, (F32 a), _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
INGOT_OP(Mask, operator<, (F32 a, F32 b), _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ))
INGOT_OP(Mask, operator>, (F32 a, F32 b), _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ))
INGOT_OP(Mask, is_nan, (F32 a), _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q))
INGOT_OP(F32, select, (Mask m, F32 a, F32 b), _mm512_mask_blend_ps(m.v, b.v, a.v))
INGOT_OP(I32, select, (Mask m, I32 a, I32 b), _mm512_mask_blend_epi32(m.v, b.v, a.v))

INGOT_OP(I32, to_int, (F32 a), _mm512_cvtps_epi32(a.v))
INGOT_OP(F32, to_float, (I32 a), _mm512_cvtepi32_ps(a.v))
INGOT_OP(I32, bits, (F32 a), _mm512_castps_si512(a.v))
INGOT_OP(F32, from_bits, (I32 a), _mm512_castsi512_ps(a.v))
INGOT_OP(I32, operator+, (I32 a, I32 b), _mm512_add_epi32(a.v, b.v))
INGOT_OP(I32, operator-, (I32 a, I32 b), _mm512_sub_epi32(a.v, b.v))
INGOT_OP(I32, operator&, (I32 a, I32 b), _mm512_and_si512(a.v, b.v))
INGOT_OP(I32, operator|, (I32 a, I32 b), _mm512_or_si512(a.v, b.v))
INGOT_OP(Mask, equal, (I32 a, I32 b), _mm512_cmpeq_epi32_mask(a.v, b.v))
template <int N>
INGOT_OP(I32, shl, (I32 a), _mm512_slli_epi32(a.v, N))
template <int N>
INGOT_OP(I32, shr, (I32 a), _mm512_srli_epi32(a.v, N))
__attribute__((always_inline)) inline uint32_t to_bits(Mask m) {
  return m.v;
}

INGOT_OP(I32, load_u8, (const uint8_t* p),
         _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))
INGOT_OP(I32, load_i8, (const int8_t* p),
         _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))
INGOT_DO(store_u8, (uint8_t* p, I32 a),
         _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v)))
INGOT_OP(I32, load_u16, (const void* p),
         _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))))
INGOT_DO(store_u16, (void* p, I32 a),
         _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a.v)))
INGOT_OP(F32, load_f16, (const void* p), _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))))
INGOT_DO(store_f16, (void* p, F32 a),
         _mm256_storeu_si256(static_cast<__m256i*>(p),
                             _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)))
INGOT_OP(F32, lookup, (const float* table, I32 a), _mm512_permutexvar_ps(a.v, _mm512_loadu_ps(table)))
INGOT_OP(F32, lookup8, (const float* table, I32 a), _mm512_permutexvar_ps(a.v, _mm512_broadcast_f32x8(_mm256_loadu_ps(table))))
INGOT_OP(I32, gather, (const uint32_t* table, I32 a), _mm512_i32gather_epi32(a.v, table, 4))

__attribute__((always_inline)) inline void transpose(F32 (&r)[16]) {
  __m512 t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {  // u[i + k]: within 128-bit quarter q, column 4q + k of rows i .. i + 3
    u[i + 0] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int k = 0; k < 4; ++k) {  // a 4x4 transpose of quarters
    const __m512 a = _mm512_shuffle_f32x4(u[k], u[4 + k], 0x88),
                 b = _mm512_shuffle_f32x4(u[k], u[4 + k], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(u[8 + k], u[12 + k], 0x88),
                 d = _mm512_shuffle_f32x4(u[8 + k], u[12 + k], 0xdd);
    r[k].v = _mm512_shuffle_f32x4(a, c, 0x88);
    r[8 + k].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    r[4 + k].v = _mm512_shuffle_f32x4(b, d, 0x88);
    r[12 + k].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

__attribute__((always_inline)) inline float sum_lanes(F32 a) {
  const __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
  return _mm_cvtss_f32(q);
}

#undef INGOT_OP
#undef INGOT_DO

}  // namespace avx512
}  // namespace ingot
