// Packing, rounding of activations, and the product: in plain C++ (the reference), for AVX2 and for AVX-512 VNNI. All do the same integer sums and the same f32 operations
// in the same order, so they agree to the bit.
#include "infer/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

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

// What a type's strip holds. Values: d * scale * (code - offset) - dmin * min.
template <DType type, int columns, int bits, int offset, bool min = false, bool halves = false>
struct Packing {
  static constexpr DType kType = type;
  static constexpr int kColumns = columns, kBits = bits, kOffset = offset;
  static constexpr bool kMin = min, kHalves = halves;
};
using Q8_0 = Packing<DType::kQ8_0, 32, 8, 128>;
using Q4_0 = Packing<DType::kQ4_0, 32, 4, 8>;
using Q4_K = Packing<DType::kQ4_K, 256, 4, 0, true>;
using Q5_K = Packing<DType::kQ5_K, 256, 5, 0, true>;
using Q6_K = Packing<DType::kQ6_K, 256, 6, 32, false, true>;

// Codes, scales and minima of `kColumns` columns of one row.
struct RowBlock {
  uint8_t codes[256];
  uint16_t d = 0, dmin = 0;
  uint8_t scale[16] = {};  // for each 32 columns, Q6_K: each 16, signed
  uint8_t min[8] = {};
};

// The code that `value` is of `unit`; any where the unit says nothing.
uint8_t code_of(float value, float unit) { return unit != 0 && std::isfinite(unit) ? static_cast<uint8_t>(static_cast<int>(std::lrint(value / unit))) : uint8_t{1}; }

template <class F>
void codes_of_block(const Levels& l, RowBlock* out) {
  for (int i = 0; i < F::kColumns; ++i) out->codes[i] = static_cast<uint8_t>(l.level[i] + F::kOffset);
  f32_to_f16(&l.d, 1, &out->d);
  if (F::kMin) f32_to_f16(&l.dmin, 1, &out->dmin);
  for (int g = 0; F::kColumns == 256 && g < 16; ++g) {
    if (F::kHalves) out->scale[g] = code_of(l.scale[g], l.d);
    else if (g % 2 == 0) out->scale[g / 2] = code_of(l.scale[g], l.d);
    if (F::kMin && g % 2 == 0) out->min[g / 2] = code_of(l.min[g], l.dmin);
  }
}

// Offsets within a strip.
template <class F>
struct StripLayout {
  static constexpr int kScaled = F::kColumns == 256;
  static constexpr int kScaleBytes = kScaled ? (F::kHalves ? 32 : 16) : 0;
  static constexpr int kMinBytes = F::kMin ? 16 : 0;
  static constexpr int kCodeBytes = F::kBits == 8 ? 512 : 256;
  static constexpr int kHighBytes = F::kBits == 8 ? 0 : (F::kBits - 4) * 64;
  static constexpr int kBlockBytes = kScaleBytes + kMinBytes + kCodeBytes + kHighBytes;
  static constexpr int kBlocks = F::kColumns / 32;
  static constexpr int kHeaderBytes = F::kMin ? 64 : 32;
  static constexpr int kSuperBytes = kHeaderBytes + kBlocks * kBlockBytes;
};

// Calls f(format) for the format of a type among Fs; false when it is none of them.
template <class... Fs, class Fn>
bool with_one_of(DType type, Fn& f) {
  return ((type == Fs::kType && (f(Fs()), true)) || ...);
}

// Calls f(format) for the type; false when it has no packed form. A new format is a Packing above and a name here.
template <class Fn>
bool with_format(DType type, Fn f) {
  return with_one_of<Q8_0, Q4_0, Q4_K, Q5_K, Q6_K>(type, f);
}

template <class F>
void pack_strip(const WeightMatrix& w, int64_t strip, uint8_t* out) {
  using L = StripLayout<F>;
  std::memset(out, 0, static_cast<size_t>(w.cols / F::kColumns * L::kSuperBytes));
  RowBlock b;
  Levels l;
  const LevelReader& reader = *find_levels(F::kType);
  const int64_t bytes = info(F::kType).bytes;
  for (int64_t lane = 0; lane < 16 && strip * 16 + lane < w.rows; ++lane) {
    const auto* in = reinterpret_cast<const uint8_t*>(w.row(strip * 16 + lane));
    uint8_t* to = out;
    for (int64_t s = 0; s < w.cols / F::kColumns; ++s, in += bytes, to += L::kSuperBytes) {
      reader.read(in, &l);
      codes_of_block<F>(l, &b);
      std::memcpy(to + 2 * lane, &b.d, 2);
      if (F::kMin) std::memcpy(to + 32 + 2 * lane, &b.dmin, 2);
      for (int k = 0; k < L::kBlocks; ++k) {
        uint8_t* p = to + L::kHeaderBytes + k * L::kBlockBytes;
        if (F::kHalves) {
          p[lane] = b.scale[2 * k], p[16 + lane] = b.scale[2 * k + 1];
        } else if (L::kScaled) {
          p[lane] = b.scale[k];
        }
        if (F::kMin) p[L::kScaleBytes + lane] = b.min[k];
        p += L::kScaleBytes + L::kMinBytes;
        for (int j = 0; j < 8; ++j)
          for (int i = 0; i < 4; ++i) {
            const uint8_t c = b.codes[32 * k + 4 * j + i];
            if (F::kBits == 8) {
              p[64 * j + 4 * lane + i] = c;
              continue;
            }
            p[64 * (j % 4) + 4 * lane + i] |= static_cast<uint8_t>(j < 4 ? c & 15 : (c & 15) << 4);
            if (F::kBits == 5) p[256 + 4 * lane + i] |= static_cast<uint8_t>((c >> 4) << j);
            if (F::kBits == 6)
              p[256 + 64 * (j / 4) + 4 * lane + i] |= static_cast<uint8_t>((c >> 4) << (2 * (j % 4)));
          }
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
  using L = StripLayout<F>;
  float acc[16] = {};
  int64_t block = 0;
  for (int64_t s = 0; s < x.cols / F::kColumns; ++s, strip += L::kSuperBytes)
    for (int k = 0; k < L::kBlocks; ++k, ++block) {
      const uint8_t* p = strip + L::kHeaderBytes + k * L::kBlockBytes;
      const uint8_t* codes = p + L::kScaleBytes + L::kMinBytes;
      const float dx = x.scale[block];
      const int32_t s0 = x.sums[2 * block], s1 = x.sums[2 * block + 1];
      for (int r = 0; r < 16; ++r) {
        int32_t half[2] = {-F::kOffset * s0, -F::kOffset * s1};
        for (int j = 0; j < 8; ++j)
          for (int i = 0; i < 4; ++i) {
            int c;
            if (F::kBits == 8)
              c = codes[64 * j + 4 * r + i];
            else
              c = j < 4 ? codes[64 * j + 4 * r + i] & 15 : codes[64 * (j - 4) + 4 * r + i] >> 4;
            if (F::kBits == 5) c |= (codes[256 + 4 * r + i] >> j & 1) << 4;
            if (F::kBits == 6) c |= (codes[256 + 64 * (j / 4) + 4 * r + i] >> (2 * (j % 4)) & 3) << 4;
            half[j / 4] += c * x.q[block * 32 + 4 * j + i];
          }
        const float d = float_from_f16(u16_at(strip + 2 * r));
        int32_t dot = half[0] + half[1];
        if (F::kHalves) dot = half[0] * static_cast<int8_t>(p[r]) + half[1] * static_cast<int8_t>(p[16 + r]);
        const float w = L::kScaled && !F::kHalves ? d * static_cast<float>(p[r]) : d;
        acc[r] = std::fma(static_cast<float>(dot), w * dx, acc[r]);
        if (F::kMin) {
          const float m =
              float_from_f16(u16_at(strip + 32 + 2 * r)) * static_cast<float>(p[L::kScaleBytes + r]);
          acc[r] = std::fma(-m, dx * static_cast<float>(s0 + s1), acc[r]);
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

// The codes of a block, one byte each.
template <class F>
inline const uint8_t* bytes_of_codes(const uint8_t* codes, uint8_t* memory) {
  if constexpr (F::kBits == 8) return codes;
  const __m256i low = _mm256_set1_epi8(15);
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 8; ++j) {
      __m256i c = code_bytes(codes + 64 * (j % 4) + 32 * half);
      c = _mm256_and_si256(j < 4 ? c : _mm256_srli_epi16(c, 4), low);
      if constexpr (F::kBits == 5) {
        const __m256i bit = _mm256_and_si256(code_bytes(codes + 256 + 32 * half), _mm256_set1_epi8(static_cast<char>(1 << j)));
        c = _mm256_or_si256(c, _mm256_andnot_si256(_mm256_cmpeq_epi8(bit, _mm256_setzero_si256()), _mm256_set1_epi8(16)));
      }
      if constexpr (F::kBits == 6) {
        const __m256i two = _mm256_and_si256(_mm256_srli_epi16(code_bytes(codes + 256 + 64 * (j / 4) + 32 * half), 2 * (j % 4)), _mm256_set1_epi8(3));
        c = _mm256_or_si256(c, _mm256_slli_epi16(two, 4));
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(memory + 64 * j + 32 * half), c);
    }
  return memory;
}
inline __m256 eight_halves(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline __m256i eight_bytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
inline __m256i eight_signed(const uint8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }

// kT tokens times one strip; out [kT, 16].
template <class F, int kT>
void strip_avx2(const uint8_t* strip, const ActivationView& x, float* out) {
  using L = StripLayout<F>;
  constexpr int kAdds = F::kBits == 8 ? 0 : adds_of((1 << F::kBits) - 1);
  const int64_t blocks = x.cols / 32;
  __m256 acc[kT][2];
  for (int t = 0; t < kT; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  alignas(32) uint8_t memory[512];
  int64_t block = 0;
  for (int64_t s = 0; s < x.cols / F::kColumns; ++s, strip += L::kSuperBytes) {
    const __m256 d[2] = {eight_halves(strip), eight_halves(strip + 16)};
    __m256 dmin[2] = {d[0], d[1]};
    if constexpr (F::kMin) dmin[0] = eight_halves(strip + 32), dmin[1] = eight_halves(strip + 48);
    for (int k = 0; k < L::kBlocks; ++k, ++block) {
      const uint8_t* p = strip + L::kHeaderBytes + k * L::kBlockBytes;
      const uint8_t* codes = bytes_of_codes<F>(p + L::kScaleBytes + L::kMinBytes, memory);
      __m256i dots[kT][2][2];
      dots_avx2<kAdds, F::kHalves, kT>(codes, x.q + block * 32, x.cols, dots);
      __m256 w[2] = {d[0], d[1]}, m[2] = {d[0], d[1]};
      for (int r = 0; r < 2; ++r) {
        if constexpr (L::kScaled && !F::kHalves) w[r] = _mm256_mul_ps(d[r], _mm256_cvtepi32_ps(eight_bytes(p + 8 * r)));
        if constexpr (F::kMin) m[r] = _mm256_mul_ps(dmin[r], _mm256_cvtepi32_ps(eight_bytes(p + L::kScaleBytes + 8 * r)));
      }
      for (int t = 0; t < kT; ++t) {
        const int32_t* sums = x.sums + (t * blocks + block) * 2;
        const float dx = x.scale[t * blocks + block];
        const int32_t over[2] = {kAdds == 0 ? 0 : F::kOffset * (F::kHalves ? sums[0] : sums[0] + sums[1]), F::kOffset * sums[1]};
        for (int r = 0; r < 2; ++r) {
          __m256i dot = _mm256_sub_epi32(dots[t][0][r], _mm256_set1_epi32(over[0]));
          if constexpr (F::kHalves)
            dot = _mm256_add_epi32(_mm256_mullo_epi32(dot, eight_signed(p + 8 * r)),
                                   _mm256_mullo_epi32(_mm256_sub_epi32(dots[t][1][r], _mm256_set1_epi32(over[1])), eight_signed(p + 16 + 8 * r)));
          acc[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(w[r], _mm256_set1_ps(dx)), acc[t][r]);
          if constexpr (F::kMin) acc[t][r] = _mm256_fnmadd_ps(m[r], _mm256_set1_ps(dx * static_cast<float>(sums[0] + sums[1])), acc[t][r]);
        }
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

// The codes of columns 4j .. 4j + 3 of a block, for 16 rows.
template <class F, int j>
inline __m512i codes_of(const uint8_t* p, const __m512i* high) {
  if constexpr (F::kBits == 8) {
    return _mm512_loadu_si512(p + 64 * j);
  } else {
    __m512i c = _mm512_loadu_si512(p + 64 * (j % 4));
    if constexpr (j >= 4) c = _mm512_srli_epi16(c, 4);
    c = _mm512_and_si512(c, _mm512_set1_epi8(15));
    if constexpr (F::kBits == 5) {
      __m512i h = high[0];
      if constexpr (j < 4) h = _mm512_slli_epi16(h, 4 - j);
      if constexpr (j > 4) h = _mm512_srli_epi16(h, j - 4);
      c = _mm512_or_si512(c, _mm512_and_si512(h, _mm512_set1_epi8(16)));
    }
    if constexpr (F::kBits == 6) {
      __m512i h = high[j / 4];
      if constexpr (j % 4 < 2) h = _mm512_slli_epi16(h, 4 - 2 * (j % 4));
      if constexpr (j % 4 == 3) h = _mm512_srli_epi16(h, 2);
      c = _mm512_or_si512(c, _mm512_and_si512(h, _mm512_set1_epi8(48)));
    }
    return c;
  }
}

inline __m512i four(const int8_t* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}
inline __m512 halves_at(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline __m128i bytes_at(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

// kT tokens times one strip; out [kT, 16].
template <class F, int kT>
void strip_vnni(const uint8_t* strip, const ActivationView& x, float* out) {
  using L = StripLayout<F>;
  const int64_t blocks = x.cols / 32;
  __m512 acc[kT];
  for (int t = 0; t < kT; ++t) acc[t] = _mm512_setzero_ps();
  int64_t block = 0;
  for (int64_t s = 0; s < x.cols / F::kColumns; ++s, strip += L::kSuperBytes) {
    const __m512 d = halves_at(strip);
    __m512 dmin = d;
    if constexpr (F::kMin) dmin = halves_at(strip + 32);
    for (int k = 0; k < L::kBlocks; ++k, ++block) {
      const uint8_t* p = strip + L::kHeaderBytes + k * L::kBlockBytes;
      const uint8_t* codes = p + L::kScaleBytes + L::kMinBytes;
      __m512i high[2];
      if constexpr (F::kBits == 5) high[0] = _mm512_loadu_si512(codes + 256);
      if constexpr (F::kBits == 6)
        high[0] = _mm512_loadu_si512(codes + 256), high[1] = _mm512_loadu_si512(codes + 320);
      const __m512i u[8] = {codes_of<F, 0>(codes, high), codes_of<F, 1>(codes, high),
                            codes_of<F, 2>(codes, high), codes_of<F, 3>(codes, high),
                            codes_of<F, 4>(codes, high), codes_of<F, 5>(codes, high),
                            codes_of<F, 6>(codes, high), codes_of<F, 7>(codes, high)};
      __m512 w = d, m = d;
      if constexpr (L::kScaled && !F::kHalves)
        w = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes_at(p))));
      if constexpr (F::kMin)
        m = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes_at(p + L::kScaleBytes))));
      for (int t = 0; t < kT; ++t) {
        const int8_t* q = x.q + t * x.cols + block * 32;
        const int32_t* sums = x.sums + t * blocks * 2 + block * 2;
        const float dx = x.scale[t * blocks + block];
        __m512i a = _mm512_set1_epi32(-F::kOffset * (F::kHalves ? sums[0] : sums[0] + sums[1]));
        // Two chains for one token alone: the sums are integers, their order is free.
        __m512i b = F::kHalves ? _mm512_set1_epi32(-F::kOffset * sums[1]) : _mm512_setzero_si512();
        for (int j = 0; j < 4; ++j) {
          a = _mm512_dpbusd_epi32(a, u[j], four(q + 4 * j));
          if (F::kHalves || kT == 1)
            b = _mm512_dpbusd_epi32(b, u[4 + j], four(q + 16 + 4 * j));
          else
            a = _mm512_dpbusd_epi32(a, u[4 + j], four(q + 16 + 4 * j));
        }
        if constexpr (F::kHalves) {
          a = _mm512_add_epi32(_mm512_mullo_epi32(a, _mm512_cvtepi8_epi32(bytes_at(p))),
                               _mm512_mullo_epi32(b, _mm512_cvtepi8_epi32(bytes_at(p + 16))));
        } else if constexpr (kT == 1) {
          a = _mm512_add_epi32(a, b);
        }
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(w, _mm512_set1_ps(dx)), acc[t]);
        if constexpr (F::kMin)
          acc[t] = _mm512_fnmadd_ps(m, _mm512_set1_ps(dx * static_cast<float>(sums[0] + sums[1])), acc[t]);
      }
    }
  }
  for (int t = 0; t < kT; ++t) _mm512_storeu_ps(out + 16 * t, acc[t]);
}

}  // namespace
}  // namespace ingot
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
  return machine_has_byte_products() && with_format(type, [](auto) {});
}

std::shared_ptr<const PackedMatrix> pack_matrix(ThreadPool& pool, const WeightMatrix& w) {
  auto m = std::make_shared<PackedMatrix>();
  m->type = w.type;
  m->rows = w.rows;
  m->cols = w.cols;
  m->strips = (w.rows + 15) / 16;
  const bool made = with_format(w.type, [&](auto f) {
    using F = decltype(f);
    m->strip_bytes = static_cast<uint64_t>(w.cols / F::kColumns * StripLayout<F>::kSuperBytes);
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
  auto one = [&](int64_t t) {
    quantize_row(x + t * width, width, q.data() + t * width, scale.data() + t * width / 32,
                 sums.data() + t * width / 16);
  };
  if (n < 8)
    for (int64_t t = 0; t < n; ++t) one(t);
  else
    pool.parallel_for(n, one);
}

void multiply_strips(const PackedMatrix& w, int64_t first, int64_t last, const Int8Activations& x, float* y) {
  float out[kTileTokens * 16];
  with_format(w.type, [&](auto f) {
    using F = decltype(f);
    for (int64_t s = first; s < last; ++s) {
      const auto* strip =
          reinterpret_cast<const uint8_t*>(w.data.get()) + static_cast<uint64_t>(s) * w.strip_bytes;
      const auto rows = static_cast<size_t>(std::min<int64_t>(16, w.rows - s * 16));
      for (int64_t t = 0; t < x.tokens;) {
        const ActivationView view{x.q.data() + t * x.cols, x.scale.data() + t * x.cols / 32,
                                  x.sums.data() + t * x.cols / 16, x.cols};
        const int n = strip_tile<F>(strip, view, x.tokens - t, out);
        for (int i = 0; i < n; ++i) std::memcpy(y + (t + i) * w.rows + s * 16, out + 16 * i, rows * 4);
        t += n;
      }
    }
  });
}

}  // namespace ingot
