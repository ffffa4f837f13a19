// Packing, rounding of activations, and the product: in plain C++ (the reference), for AVX2, for AVX-512 VNNI and for AMX (packed_tiles-inl.h). All do the same integer sums and the same f32 operations
// in the same order, so they agree to the bit (of NaN the sign may be another).
#include "infer/packed.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "infer/amx.h"
#include "infer/packings.h"
#include "kernels/cast.h"
#include "kernels/dispatch.h"
#include "quant/levels.h"

#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace ingot {
namespace {

inline uint16_t u16_at(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}

inline float number_at(const uint8_t* p, bool wide) {
  if (!wide) return float_from_f16(u16_at(p));
  float f;
  std::memcpy(&f, p, 4);
  return f;
}
template <class F>
void put_number(float v, uint8_t* p) {
  uint16_t h;
  if (!F::kWide) f32_to_f16(&v, 1, &h);
  std::memcpy(p, F::kWide ? static_cast<const void*>(&v) : &h, F::kWide ? 4 : 2);
}

// The multiple that `value` is of `unit`; any where the unit says nothing.
uint8_t multiple_of(float unit, float value) { return unit != 0 && std::isfinite(unit) ? static_cast<uint8_t>(static_cast<int>(std::lrint(value / unit))) : uint8_t{1}; }

// Codes by their levels, from -128 on.
template <class F>
constexpr std::array<uint8_t, 256> kCodes = [] {
  std::array<uint8_t, 256> t{};
  for (int c = (1 << F::kBits) - 1; c >= 0; --c)
    if (const int l = F::level(c); l >= -128 && l < 128) t[static_cast<size_t>(l + 128)] = static_cast<uint8_t>(c);
  return t;
}();

// 32 columns of one row: its codes and high bits, `in` are the levels.
template <class F>
void pack_codes(const int8_t* in, int64_t lane, uint8_t* codes) {
  uint8_t* high = codes + F::kCodeBytes;
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 4; ++i) {
      const uint8_t c = kCodes<F>[static_cast<size_t>(in[4 * j + i] + 128)];
      const int64_t at = 4 * lane + i;
      if (F::kBits == 8) codes[64 * j + at] = c;
      else if (F::kBits >= 4) codes[64 * (j % 4) + at] |= static_cast<uint8_t>(j < 4 ? c & 15 : (c & 15) << 4);
      else codes[64 * (j / 4) + at] |= static_cast<uint8_t>((c & 3) << 2 * (j % 4));
      if (F::kBits == 3) high[at] |= static_cast<uint8_t>((c >> 2) << j);
      if (F::kBits == 5) high[at] |= static_cast<uint8_t>((c >> 4) << j);
      if (F::kBits == 6) high[64 * (j / 4) + at] |= static_cast<uint8_t>((c >> 4) << 2 * (j % 4));
    }
}

// The code of column 4j + i of a row.
template <class F>
int code_at(const uint8_t* codes, int j, int64_t at) {
  const uint8_t* high = codes + F::kCodeBytes;
  if (F::kBits == 8) return codes[64 * j + at];
  int c = F::kBits >= 4 ? codes[64 * (j % 4) + at] >> (j < 4 ? 0 : 4) & 15 : codes[64 * (j / 4) + at] >> 2 * (j % 4) & 3;
  if (F::kBits == 3) c |= (high[at] >> j & 1) << 2;
  if (F::kBits == 5) c |= (high[at] >> j & 1) << 4;
  if (F::kBits == 6) c |= (high[64 * (j / 4) + at] >> 2 * (j % 4) & 3) << 4;
  return c;
}

template <class F>
void pack_strip(const WeightMatrix& w, int64_t strip, uint8_t* out) {
  std::memset(out, 0, static_cast<size_t>(w.cols / F::kColumns * F::kSuperBytes));
  Levels l;
  const LevelReader& reader = *find_levels(F::kType);
  const int64_t bytes = info(F::kType).bytes, values = info(F::kType).block;
  for (int64_t lane = 0; lane < 16 && strip * 16 + lane < w.rows; ++lane) {
    const auto* in = reinterpret_cast<const uint8_t*>(w.row(strip * 16 + lane));
    uint8_t* super = out;
    for (int64_t at = 0; at < w.cols; at += values, in += bytes) {
      reader.read(in, &l);
      const float d = l.d * F::kUnit;
      for (int64_t b = 0; b < values / 32; ++b) {
        const int64_t k = b % F::kBlocks;
        if (k == 0 && F::kScaled) {
          put_number<F>(d, super + F::kNumber / 16 * lane);
          if (F::kMin) put_number<F>(l.dmin, super + F::kOfMin + F::kNumber / 16 * lane);
        } else if (!F::kScaled) {
          put_number<F>(l.scale[2 * b], super + F::kNumber / 16 * lane);
          if (F::kHalves) put_number<F>(l.scale[2 * b + 1], super + F::kNumber + F::kNumber / 16 * lane);
          if (F::kMin) put_number<F>(l.min[2 * b], super + F::kOfMin + F::kNumber / 16 * lane);
        }
        uint8_t* p = super + F::kHeaderBytes + k * F::kBlockBytes;
        for (int h = 0; F::kScaled && h < (F::kHalves ? 2 : 1); ++h) {
          p[16 * h + lane] = multiple_of(d, l.scale[2 * b + h]);
          if (F::kMin) p[F::kScaleBytes + 16 * h + lane] = multiple_of(l.dmin, l.min[2 * b + h]);
        }
        pack_codes<F>(l.level + 32 * b, lane, p + F::kScaleBytes + F::kMinBytes);
        if (k == F::kBlocks - 1) super += F::kSuperBytes;
      }
    }
  }
}

// Some tokens of the activations.
struct ActivationView {
  const int8_t* q;
  const float* scale;
  const int32_t* sums;
  int64_t cols;
};

template <class F>
void strip_reference(const uint8_t* strip, const ActivationView& x, float* out) {
  float acc[16] = {};
  int64_t block = 0;
  for (int64_t s = 0; s < x.cols / F::kColumns; ++s, strip += F::kSuperBytes)
    for (int k = 0; k < F::kBlocks; ++k, ++block) {
      const uint8_t* p = strip + F::kHeaderBytes + k * F::kBlockBytes;
      const uint8_t* mins = p + F::kScaleBytes;
      const float dx = x.scale[block];
      const int32_t sum[2] = {x.sums[2 * block], x.sums[2 * block + 1]};
      for (int r = 0; r < 16; ++r) {
        int32_t half[2] = {};
        for (int j = 0; j < 8; ++j)
          for (int i = 0; i < 4; ++i) half[j / 4] += F::level(code_at<F>(mins + F::kMinBytes, j, 4 * r + i)) * x.q[block * 32 + 4 * j + i];
        const float d = number_at(strip + F::kNumber / 16 * r, F::kWide);
        if (F::kHalves && !F::kScaled) {
          acc[r] = std::fma(static_cast<float>(half[0]), d * dx, acc[r]);
          acc[r] = std::fma(static_cast<float>(half[1]), number_at(strip + F::kNumber + F::kNumber / 16 * r, F::kWide) * dx, acc[r]);
        } else {
          const int32_t dot = F::kHalves ? half[0] * static_cast<int8_t>(p[r]) + half[1] * static_cast<int8_t>(p[16 + r]) : half[0] + half[1];
          const float w = F::kScaled && !F::kHalves ? d * static_cast<float>(static_cast<int8_t>(p[r])) : d;
          acc[r] = std::fma(static_cast<float>(dot), w * dx, acc[r]);
        }
        if (!F::kMin) continue;
        const float dmin = number_at(strip + F::kOfMin + F::kNumber / 16 * r, F::kWide);
        if (F::kHalves) {
          for (int h = 0; h < 2; ++h) acc[r] = std::fma(-(dmin * static_cast<float>(mins[16 * h + r])), dx * static_cast<float>(sum[h]), acc[r]);
        } else {
          acc[r] = std::fma(-(F::kScaled ? dmin * static_cast<float>(mins[r]) : dmin), dx * static_cast<float>(sum[0] + sum[1]), acc[r]);
        }
      }
    }
  std::memcpy(out, acc, sizeof acc);
}

}  // namespace
}  // namespace ingot

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#include "infer/strip_dots_avx2-inl.h"
namespace ingot {
namespace {

// The codes of a block, or what the table has for them, one byte each.
template <class F>
inline const uint8_t* bytes_of_codes(const uint8_t* codes, uint8_t* memory) {
  if constexpr (F::kBits == 8) return codes;
  const uint8_t* highs = codes + F::kCodeBytes;
  alignas(16) uint8_t table[16];
  for (int c = 0; c < 16; ++c) table[c] = static_cast<uint8_t>(F::kLevels[static_cast<size_t>(c)] + F::kOffset);
  const __m256i bytes = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 8; ++j) {
      __m256i c;
      if constexpr (F::kBits >= 4) {
        c = code_bytes(codes + 64 * (j % 4) + 32 * half);
        c = _mm256_and_si256(j < 4 ? c : _mm256_srli_epi16(c, 4), _mm256_set1_epi8(15));
      } else {
        c = _mm256_and_si256(_mm256_srli_epi16(code_bytes(codes + 64 * (j / 4) + 32 * half), 2 * (j % 4)), _mm256_set1_epi8(3));
      }
      if constexpr (F::kBits == 3 || F::kBits == 5) {
        const __m256i bit = _mm256_and_si256(code_bytes(highs + 32 * half), _mm256_set1_epi8(static_cast<char>(1 << j)));
        c = _mm256_or_si256(c, _mm256_andnot_si256(_mm256_cmpeq_epi8(bit, _mm256_setzero_si256()), _mm256_set1_epi8(F::kBits == 3 ? 4 : 16)));
      }
      if constexpr (F::kBits == 6) {
        const __m256i two = _mm256_and_si256(_mm256_srli_epi16(code_bytes(highs + 64 * (j / 4) + 32 * half), 2 * (j % 4)), _mm256_set1_epi8(3));
        c = _mm256_or_si256(c, _mm256_slli_epi16(two, 4));
      }
      if constexpr (F::kTabled) c = _mm256_shuffle_epi8(bytes, c);
      _mm256_store_si256(reinterpret_cast<__m256i*>(memory + 64 * j + 32 * half), c);
    }
  return memory;
}
inline __m256i eight_bytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
inline __m256i eight_signed(const uint8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
// Numbers of a header, rows 8r and on.
template <class F>
inline __m256 eight_numbers(const uint8_t* p, int r) {
  if constexpr (F::kWide) return _mm256_loadu_ps(reinterpret_cast<const float*>(p) + 8 * r);
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + r));
}

// kT tokens times one strip; out [kT, 16].
template <class F, int kT>
void strip_avx2(const uint8_t* strip, const ActivationView& x, float* out) {
  constexpr int kAdds = adds_of(F::kRange);
  static_assert(kAdds != 0 || F::kOffset == 128);
  const int64_t blocks = x.cols / 32;
  __m256 acc[kT][2];
  for (int t = 0; t < kT; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  alignas(32) uint8_t memory[512];
  int64_t block = 0;
  for (int64_t s = 0; s < x.cols / F::kColumns; ++s, strip += F::kSuperBytes)
    for (int k = 0; k < F::kBlocks; ++k, ++block) {
      const uint8_t *p = strip + F::kHeaderBytes + k * F::kBlockBytes, *mins = p + F::kScaleBytes;
      const uint8_t* codes = bytes_of_codes<F>(mins + F::kMinBytes, memory);
      __m256i dots[kT][2][2];
      dots_avx2<kAdds, F::kHalves, kT>(codes, x.q + block * 32, x.cols, dots);
      for (int r = 0; r < 2; ++r) {
        const __m256 d = eight_numbers<F>(strip, r);
        __m256 w[2] = {d, d}, m[2] = {d, d};
        if constexpr (F::kScaled && !F::kHalves) w[0] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(eight_signed(p + 8 * r)));
        if constexpr (!F::kScaled && F::kHalves) w[1] = eight_numbers<F>(strip + F::kNumber, r);
        if constexpr (F::kMin) {
          m[0] = m[1] = eight_numbers<F>(strip + F::kOfMin, r);
          if constexpr (F::kScaled)
            for (int h = 0; h < (F::kHalves ? 2 : 1); ++h) m[h] = _mm256_mul_ps(m[h], _mm256_cvtepi32_ps(eight_bytes(mins + 16 * h + 8 * r)));
        }
        for (int t = 0; t < kT; ++t) {
          const int32_t* sums = x.sums + (t * blocks + block) * 2;
          const float dx = x.scale[t * blocks + block];
          const __m256 dxs = _mm256_set1_ps(dx);
          const int32_t sum[2] = {F::kHalves ? sums[0] : sums[0] + sums[1], sums[1]};
          __m256i dot[2];
          for (int h = 0; h < (F::kHalves ? 2 : 1); ++h) dot[h] = kAdds == 0 ? dots[t][h][r] : _mm256_sub_epi32(dots[t][h][r], _mm256_set1_epi32(F::kOffset * sum[h]));
          if constexpr (F::kScaled && F::kHalves)
            dot[0] = _mm256_add_epi32(_mm256_mullo_epi32(dot[0], eight_signed(p + 8 * r)), _mm256_mullo_epi32(dot[1], eight_signed(p + 16 + 8 * r)));
          acc[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[0]), _mm256_mul_ps(w[0], dxs), acc[t][r]);
          if constexpr (!F::kScaled && F::kHalves) acc[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[1]), _mm256_mul_ps(w[1], dxs), acc[t][r]);
          if constexpr (F::kMin)
            for (int h = 0; h < (F::kHalves ? 2 : 1); ++h) acc[t][r] = _mm256_fnmadd_ps(m[h], _mm256_set1_ps(dx * static_cast<float>(sum[h])), acc[t][r]);
        }
      }
    }
  for (int t = 0; t < kT; ++t)
    for (int r = 0; r < 2; ++r) _mm256_storeu_ps(out + 16 * t + 8 * r, acc[t][r]);
}

}  // namespace
}  // namespace ingot
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif
namespace ingot {
namespace {

// The codes of columns 4j .. 4j + 3 of a block, or what the table has for them, for 16 rows.
template <class F, int j>
inline __m512i codes_of(const uint8_t* p, const __m512i* high, __m512i table) {
  if constexpr (F::kBits == 8) {
    return _mm512_loadu_si512(p + 64 * j);
  } else {
    __m512i c = _mm512_loadu_si512(p + 64 * (F::kBits >= 4 ? j % 4 : j / 4));
    if constexpr (F::kBits >= 4 && j >= 4) c = _mm512_srli_epi16(c, 4);
    if constexpr (F::kBits < 4 && j % 4 > 0) c = _mm512_srli_epi16(c, 2 * (j % 4));
    c = _mm512_and_si512(c, _mm512_set1_epi8(F::kBits >= 4 ? 15 : 3));
    if constexpr (F::kBits == 3 || F::kBits == 5) {
      constexpr int to = F::kBits - 1;
      __m512i h = high[0];
      if constexpr (j < to) h = _mm512_slli_epi16(h, to - j);
      if constexpr (j > to) h = _mm512_srli_epi16(h, j - to);
      c = _mm512_or_si512(c, _mm512_and_si512(h, _mm512_set1_epi8(1 << to)));
    }
    if constexpr (F::kBits == 6) {
      __m512i h = high[j / 4];
      if constexpr (j % 4 < 2) h = _mm512_slli_epi16(h, 4 - 2 * (j % 4));
      if constexpr (j % 4 == 3) h = _mm512_srli_epi16(h, 2);
      c = _mm512_or_si512(c, _mm512_and_si512(h, _mm512_set1_epi8(48)));
    }
    if constexpr (F::kTabled) c = _mm512_shuffle_epi8(table, c);
    return c;
  }
}

template <class F>
inline void codes_of_block(const uint8_t* p, __m512i table, __m512i* u) {
  __m512i high[2];
  if constexpr (F::kHighBytes > 0) high[0] = _mm512_loadu_si512(p + F::kCodeBytes);
  if constexpr (F::kHighBytes > 64) high[1] = _mm512_loadu_si512(p + F::kCodeBytes + 64);
  u[0] = codes_of<F, 0>(p, high, table), u[1] = codes_of<F, 1>(p, high, table), u[2] = codes_of<F, 2>(p, high, table), u[3] = codes_of<F, 3>(p, high, table);
  u[4] = codes_of<F, 4>(p, high, table), u[5] = codes_of<F, 5>(p, high, table), u[6] = codes_of<F, 6>(p, high, table), u[7] = codes_of<F, 7>(p, high, table);
}

inline __m512i four(const int8_t* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}
template <class F>
inline __m512 numbers_at(const uint8_t* p) {
  if constexpr (F::kWide) return _mm512_loadu_ps(p);
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline __m128i bytes_at(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline __m512i sixteen_signed(const uint8_t* p) { return _mm512_cvtepi8_epi32(bytes_at(p)); }
inline __m512 sixteen_bytes(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes_at(p))); }

// kT tokens times one strip; out [kT, 16].
template <class F, int kT>
void strip_vnni(const uint8_t* strip, const ActivationView& x, float* out) {
  const int64_t blocks = x.cols / 32;
  alignas(16) uint8_t levels[16];
  for (int c = 0; c < 16; ++c) levels[c] = static_cast<uint8_t>(F::kLevels[static_cast<size_t>(c)] + F::kOffset);
  const __m512i table = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(levels)));
  __m512 acc[kT];
  for (int t = 0; t < kT; ++t) acc[t] = _mm512_setzero_ps();
  int64_t block = 0;
  for (int64_t s = 0; s < x.cols / F::kColumns; ++s, strip += F::kSuperBytes) {
    const __m512 d = numbers_at<F>(strip);
    for (int k = 0; k < F::kBlocks; ++k, ++block) {
      const uint8_t *p = strip + F::kHeaderBytes + k * F::kBlockBytes, *mins = p + F::kScaleBytes, *codes = mins + F::kMinBytes;
      __m512i u[8];
      codes_of_block<F>(codes, table, u);
      __m512 w[2] = {d, d}, m[2] = {d, d};
      if constexpr (F::kScaled && !F::kHalves) w[0] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sixteen_signed(p)));
      if constexpr (!F::kScaled && F::kHalves) w[1] = numbers_at<F>(strip + F::kNumber);
      if constexpr (F::kMin) {
        m[0] = m[1] = numbers_at<F>(strip + F::kOfMin);
        if constexpr (F::kScaled)
          for (int h = 0; h < (F::kHalves ? 2 : 1); ++h) m[h] = _mm512_mul_ps(m[h], sixteen_bytes(mins + 16 * h));
      }
      for (int t = 0; t < kT; ++t) {
        const int8_t* q = x.q + t * x.cols + block * 32;
        const int32_t* sums = x.sums + t * blocks * 2 + block * 2;
        const float dx = x.scale[t * blocks + block];
        const __m512 dxs = _mm512_set1_ps(dx);
        const int32_t sum[2] = {F::kHalves ? sums[0] : sums[0] + sums[1], sums[1]};
        __m512i a = _mm512_set1_epi32(-F::kOffset * sum[0]);
        // Two chains for one token alone: the sums are integers, their order is free.
        __m512i b = F::kHalves ? _mm512_set1_epi32(-F::kOffset * sum[1]) : _mm512_setzero_si512();
        for (int j = 0; j < 4; ++j) {
          a = _mm512_dpbusd_epi32(a, u[j], four(q + 4 * j));
          if (F::kHalves || kT == 1)
            b = _mm512_dpbusd_epi32(b, u[4 + j], four(q + 16 + 4 * j));
          else
            a = _mm512_dpbusd_epi32(a, u[4 + j], four(q + 16 + 4 * j));
        }
        if constexpr (F::kScaled && F::kHalves) {
          a = _mm512_add_epi32(_mm512_mullo_epi32(a, sixteen_signed(p)), _mm512_mullo_epi32(b, sixteen_signed(p + 16)));
        } else if constexpr (!F::kHalves && kT == 1) {
          a = _mm512_add_epi32(a, b);
        }
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(w[0], dxs), acc[t]);
        if constexpr (!F::kScaled && F::kHalves) acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(w[1], dxs), acc[t]);
        if constexpr (F::kMin)
          for (int h = 0; h < (F::kHalves ? 2 : 1); ++h) acc[t] = _mm512_fnmadd_ps(m[h], _mm512_set1_ps(dx * static_cast<float>(sum[h])), acc[t]);
      }
    }
  }
  for (int t = 0; t < kT; ++t) _mm512_storeu_ps(out + 16 * t, acc[t]);
}

}  // namespace
}  // namespace ingot
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")
#endif
#include "infer/packed_tiles-inl.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#pragma GCC diagnostic pop
#endif
#endif

namespace ingot {

bool machine_has_vnni() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl");
  return has && active_target() == Target::kAvx512;
#else
  return false;
#endif
}

bool machine_has_byte_products() {
#if defined(__x86_64__)
  return active_target() != Target::kScalar;
#else
  return false;
#endif
}

namespace {

constexpr int kTileTokens = 8;

template <class F>
int strip_tile(const uint8_t* strip, const ActivationView& x, int64_t tokens, float* out) {
#if defined(__x86_64__)
  if (machine_has_vnni()) {
    if (tokens >= kTileTokens) return strip_vnni<F, kTileTokens>(strip, x, out), kTileTokens;
    if (tokens >= 2) return strip_vnni<F, 2>(strip, x, out), 2;
    return strip_vnni<F, 1>(strip, x, out), 1;
  }
  if (machine_has_byte_products()) {
    if (tokens >= 4) return strip_avx2<F, 4>(strip, x, out), 4;
    if (tokens >= 2) return strip_avx2<F, 2>(strip, x, out), 2;
    return strip_avx2<F, 1>(strip, x, out), 1;
  }
#endif
  (void)tokens;
  strip_reference<F>(strip, x, out);
  return 1;
}

void quantize_row(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sums) {
  for (int64_t b = 0; b < cols / 32; ++b, x += 32, q += 32) {
    float top = 0, poison = 0;
    for (int i = 0; i < 32; ++i) {
      top = std::max(top, std::fabs(x[i]));
      poison += x[i] * 0.0f;  // NaN when anything is not finite
    }
    scale[b] = top / 127.0f + poison;
    const float inverse = top > 0 && std::isfinite(scale[b]) ? 127.0f / top : 0.0f;
    for (int h = 0; h < 2; ++h) {
      int32_t sum = 0;
      for (int i = 16 * h; i < 16 * h + 16; ++i) {
        // Adding 1.5 * 2^23 rounds half to even into the low bits; NaN * 0 is kept out by the test.
        const float y = std::isfinite(inverse) && std::isfinite(scale[b]) ? x[i] * inverse : 0.0f;
        const float r = y + 12582912.0f;
        int32_t bits;
        std::memcpy(&bits, &r, 4);
        const int32_t v = bits - 0x4b400000;
        q[i] = static_cast<int8_t>(v);
        sum += v;
      }
      sums[2 * b + h] = sum;
    }
  }
}

}  // namespace

bool can_pack(DType type) {
  return machine_has_byte_products() && with_packing(type, [](auto) {});
}

uint64_t packed_bytes(DType type, int64_t rows, int64_t cols) {
  uint64_t bytes = 0;
  with_packing(type, [&](auto f) {
    using F = decltype(f);
    bytes = static_cast<uint64_t>((rows + 15) / 16 * (cols / F::kColumns) * F::kSuperBytes);
  });
  return bytes;
}

std::shared_ptr<const PackedMatrix> pack_matrix(ThreadPool& pool, const WeightMatrix& w) {
  auto m = std::make_shared<PackedMatrix>();
  m->type = w.type;
  m->rows = w.rows;
  m->cols = w.cols;
  m->strips = (w.rows + 15) / 16;
  const bool made = with_packing(w.type, [&](auto f) {
    using F = decltype(f);
    m->strip_bytes = static_cast<uint64_t>(w.cols / F::kColumns * F::kSuperBytes);
    m->data = allocate_aligned(m->strip_bytes * static_cast<uint64_t>(m->strips));
    if (!m->data) return;
    auto* out = reinterpret_cast<uint8_t*>(m->data.get());
    pool.parallel_for(
        m->strips, [&](int64_t s) { pack_strip<F>(w, s, out + static_cast<uint64_t>(s) * m->strip_bytes); });
  });
  if (!made || !m->data) return nullptr;
  return m;
}

void Int8Activations::quantize(ThreadPool& pool, const float* x, int64_t n, int64_t width) {
  tokens = n;
  cols = width;
  q.resize(static_cast<size_t>(n * width));
  scale.resize(static_cast<size_t>(n * width / 32));
  sums.resize(static_cast<size_t>(n * width / 16));
  const int64_t blocks = width / 32, tiled = machine_has_int8_tiles() ? n / 16 * 16 : 0;
  tiles.resize(static_cast<size_t>(tiled * width));
  tile_scale.resize(static_cast<size_t>(tiled * blocks));
  tile_sums.resize(static_cast<size_t>(tiled * blocks * 3));
  auto one = [&](int64_t t) {
    int8_t* to = q.data() + t * width;
    float* d = scale.data() + t * blocks;
    int32_t* s = sums.data() + t * blocks * 2;
    quantize_row(x + t * width, width, to, d, s);
    for (int64_t b = 0; t < tiled && b < blocks; ++b) {
      const int64_t block = t / 16 * blocks + b, at = t % 16;
      std::memcpy(tiles.data() + block * 512 + at * 32, to + b * 32, 32);
      tile_scale[static_cast<size_t>(block * 16 + at)] = d[b];
      float* products = tile_sums.data() + block * 48 + at;
      products[0] = d[b] * static_cast<float>(s[2 * b] + s[2 * b + 1]);
      products[16] = d[b] * static_cast<float>(s[2 * b]), products[32] = d[b] * static_cast<float>(s[2 * b + 1]);
    }
  };
  if (n < 8)
    for (int64_t t = 0; t < n; ++t) one(t);
  else
    pool.parallel_for(n, one);
}

void multiply_strips(const PackedMatrix& w, int64_t first, int64_t last, const Int8Activations& x, float* y) {
  with_packing(w.type, [&](auto f) {
    using F = decltype(f);
    for (int64_t s = first; s < last; ++s) {
      const auto* strip =
          reinterpret_cast<const uint8_t*>(w.data.get()) + static_cast<uint64_t>(s) * w.strip_bytes;
      const auto rows = static_cast<size_t>(std::min<int64_t>(16, w.rows - s * 16));
      int64_t t = 0;
      const auto take = [&](const float* out, int64_t n) {
        for (int64_t i = 0; i < n; ++i) std::memcpy(y + (t + i) * w.rows + s * 16, out + 16 * i, rows * 4);
        t += n;
      };
#if defined(__x86_64__)
      const int64_t groups = machine_has_int8_tiles() ? x.groups() : 0;
      for (int64_t g = 0; g < groups; g += kTileGroups) {
        alignas(64) float out[kTileGroups * 256];
        const int n = static_cast<int>(std::min<int64_t>(kTileGroups, groups - g));
        strip_tiles<F>(strip, x, g, n, out);
        take(out, n * 16);
      }
#endif
      while (t < x.tokens) {
        float out[kTileTokens * 16];
        const ActivationView view{x.q.data() + t * x.cols, x.scale.data() + t * x.cols / 32, x.sums.data() + t * x.cols / 16, x.cols};
        take(out, strip_tile<F>(strip, view, x.tokens - t, out));
      }
    }
  });
}

}  // namespace ingot
