// Sixteen f32 lanes in plain C++: the reference that defines what every simd_*.h must compute, bit for bit.
// All targets have the same sixteen lanes (one 512-bit or two 256-bit registers), so a sum kept in lanes and
// folded by sum_lanes() has one order everywhere. No operation contracts; fma is fused everywhere.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace ingot {
namespace scalar {

struct F32 {
  float v[16];
};
struct I32 {
  int32_t v[16];
};
struct Mask {
  bool v[16];
};

#define INGOT_LANES for (int i = 0; i < 16; ++i)
#define INGOT_OP(R, name, params, expr) \
  inline R name params {                \
    R r;                                \
    INGOT_LANES r.v[i] = expr;          \
    return r;                           \
  }

INGOT_OP(F32, load, (const float* p), p[i])
inline void store(float* p, F32 a) { std::memcpy(p, a.v, sizeof a.v); }
INGOT_OP(F32, splat, (float x), x)
INGOT_OP(I32, splat_i, (int32_t x), x)
INGOT_OP(F32, operator+, (F32 a, F32 b), a.v[i] + b.v[i])
INGOT_OP(F32, operator-, (F32 a, F32 b), a.v[i] - b.v[i])
INGOT_OP(F32, operator*, (F32 a, F32 b), a.v[i] * b.v[i])
INGOT_OP(F32, operator/, (F32 a, F32 b), a.v[i] / b.v[i])
INGOT_OP(F32, fma, (F32 a, F32 b, F32 c), std::fma(a.v[i], b.v[i], c.v[i]))    // a * b + c, rounded once
INGOT_OP(F32, fnma, (F32 a, F32 b, F32 c), std::fma(-a.v[i], b.v[i], c.v[i]))  // c - a * b, rounded once
// As x86: the second operand when they compare equal or either is NaN.
INGOT_OP(F32, min, (F32 a, F32 b), a.v[i] < b.v[i] ? a.v[i] : b.v[i])
INGOT_OP(F32, max, (F32 a, F32 b), a.v[i] > b.v[i] ? a.v[i] : b.v[i])
INGOT_OP(F32, abs, (F32 a), std::fabs(a.v[i]))
INGOT_OP(F32, round, (F32 a), std::nearbyint(a.v[i]))  // half to even
INGOT_OP(Mask, operator<, (F32 a, F32 b), a.v[i] < b.v[i])
INGOT_OP(Mask, operator>, (F32 a, F32 b), a.v[i] > b.v[i])
INGOT_OP(Mask, is_nan, (F32 a), a.v[i] != a.v[i])
INGOT_OP(F32, select, (Mask m, F32 a, F32 b), m.v[i] ? a.v[i] : b.v[i])
INGOT_OP(I32, select, (Mask m, I32 a, I32 b), m.v[i] ? a.v[i] : b.v[i])

INGOT_OP(I32, to_int, (F32 a), static_cast<int32_t>(std::nearbyint(a.v[i])))  // |a| < 2^31
INGOT_OP(F32, to_float, (I32 a), static_cast<float>(a.v[i]))
inline I32 bits(F32 a) {
  I32 r;
  std::memcpy(r.v, a.v, sizeof r.v);
  return r;
}
inline F32 from_bits(I32 a) {
  F32 r;
  std::memcpy(r.v, a.v, sizeof r.v);
  return r;
}
INGOT_OP(I32, operator+, (I32 a, I32 b),
         static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i])))
INGOT_OP(I32, operator-, (I32 a, I32 b),
         static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i])))
INGOT_OP(I32, operator&, (I32 a, I32 b), a.v[i] & b.v[i])
INGOT_OP(I32, operator|, (I32 a, I32 b), a.v[i] | b.v[i])
INGOT_OP(Mask, equal, (I32 a, I32 b), a.v[i] == b.v[i])
template <int N>
INGOT_OP(I32, shl, (I32 a), static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << N))
template <int N>
INGOT_OP(I32, shr, (I32 a), static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> N))  // logical
// One bit a lane, lane 0 lowest.
inline uint32_t to_bits(Mask m) {
  uint32_t r = 0;
  INGOT_LANES r |= static_cast<uint32_t>(m.v[i]) << i;
  return r;
}

INGOT_OP(I32, load_u8, (const uint8_t* p), p[i])
INGOT_OP(I32, load_i8, (const int8_t* p), p[i])
inline void store_u8(uint8_t* p, I32 a) { INGOT_LANES p[i] = static_cast<uint8_t>(a.v[i]); }  // low byte
inline I32 load_u16(const void* p) {
  uint16_t h[16];
  std::memcpy(h, p, sizeof h);
  I32 r;
  INGOT_LANES r.v[i] = h[i];
  return r;
}
inline void store_u16(void* p, I32 a) {  // low 16 bits
  uint16_t h[16];
  INGOT_LANES h[i] = static_cast<uint16_t>(a.v[i]);
  std::memcpy(p, h, sizeof h);
}

inline uint16_t f16_from_f32(float x) {  // nearest even; overflow gives infinity; NaN stays NaN (made quiet)
  uint32_t u;
  std::memcpy(&u, &x, 4);
  const uint16_t sign = static_cast<uint16_t>(u >> 16 & 0x8000);
  u &= 0x7fffffff;
  if (u > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (u >> 13 & 0x3ff));
  if (u >= 0x477ff000) return sign | 0x7c00;  // 65520 and above
  if (u < 0x38800000) {                       // below 2^-14: adding 0.5 leaves the denormal in the low bits
    float a;
    std::memcpy(&a, &u, 4);
    a += 0.5f;
    std::memcpy(&u, &a, 4);
    return static_cast<uint16_t>(sign | (u - 0x3f000000));
  }
  u += 0xfff + (u >> 13 & 1);
  return static_cast<uint16_t>(sign | ((u - 0x38000000) >> 13));
}
inline float f32_from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, e = h >> 10 & 0x1f, m = h & 0x3ff;
  uint32_t u;
  if (e == 0) {
    const float f = static_cast<float>(m) * 0x1p-24f;
    std::memcpy(&u, &f, 4);
  } else if (e == 31) {
    u = 0x7f800000 | m << 13 | (m ? 0x400000 : 0);
  } else {
    u = (e + 112) << 23 | m << 13;
  }
  u |= sign;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline F32 load_f16(const void* p) {
  uint16_t h[16];
  std::memcpy(h, p, sizeof h);
  F32 r;
  INGOT_LANES r.v[i] = f32_from_f16(h[i]);
  return r;
}
inline void store_f16(void* p, F32 a) {
  uint16_t h[16];
  INGOT_LANES h[i] = f16_from_f32(a.v[i]);
  std::memcpy(p, h, sizeof h);
}

// The numbers of a table of sixteen, by an index from 0 to 15 in each lane.
INGOT_OP(F32, lookup, (const float* table, I32 a), table[a.v[i]])
// Of a table of eight, by the three lowest bits of an index.
INGOT_OP(F32, lookup8, (const float* table, I32 a), table[a.v[i] & 7])
INGOT_OP(I32, gather, (const uint32_t* table, I32 a), static_cast<int32_t>(table[a.v[i]]))

// In place: r[i].lane[j] <-> r[j].lane[i].
inline void transpose(F32 (&r)[16]) {
  for (int a = 0; a < 16; ++a)
    for (int b = a + 1; b < 16; ++b) {
      const float t = r[a].v[b];
      r[a].v[b] = r[b].v[a];
      r[b].v[a] = t;
    }
}

// The fixed tree: lanes i and i + 8, then i and i + 4, i and i + 2, i and i + 1.
inline float sum_lanes(F32 a) {
  for (int w = 8; w >= 1; w /= 2)
    for (int i = 0; i < w; ++i) a.v[i] += a.v[i + w];
  return a.v[0];
}

#undef INGOT_OP
#undef INGOT_LANES

}  // namespace scalar
}  // namespace ingot
