// A strip's block of 32 columns: scales [16] f32 (two of them where each 16 columns have one), minima alike where the type has them, then codes (levels from 0 on, or
// from -128 where they are many), four columns of each row together. The product in plain C++ (the reference), for AVX2 and for AVX-512 VNNI: the same integer sums and f32 operations in the
// same order.
#include "infer/level_strips.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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

constexpr int64_t kCodes = 512;
// What a code is above its level.
int offset_of(const LevelReader& r) { return r.high - r.low <= 129 ? -r.low : 128; }

template <bool kHalves, bool kMin>
struct Form {
  static constexpr bool halves = kHalves, min = kMin;
  static constexpr int64_t kScales = (kHalves ? 2 : 1) * 64, kMins = kMin ? kScales : 0, kBlock = kScales + kMins + kCodes;
};

template <class F>
void with_form(const LevelReader& r, F f) {
  if (r.halves) r.min ? f(Form<true, true>()) : f(Form<true, false>());
  else r.min ? f(Form<false, true>()) : f(Form<false, false>());
}

struct Tokens {  // some of the activations
  const int8_t* q;
  const float* scale;
  const int32_t* sums;
  int64_t cols;
};

float at(const std::byte* p, int64_t i) {
  float f;
  std::memcpy(&f, p + 4 * i, 4);
  return f;
}

template <class F>
void times_one(const std::byte* strip, int offset, const Tokens& x, float* out) {
  float acc[16] = {};
  for (int64_t b = 0; b < x.cols / 32; ++b, strip += F::kBlock) {
    const auto* codes = reinterpret_cast<const uint8_t*>(strip + F::kScales + F::kMins);
    const float dx = x.scale[b];
    const int32_t s[2] = {x.sums[2 * b], x.sums[2 * b + 1]};
    for (int r = 0; r < 16; ++r) {
      int32_t dot[2] = {-offset * s[0], -offset * s[1]};
      for (int k = 0; k < 32; ++k) dot[k / 16] += codes[64 * (k / 4) + 4 * r + k % 4] * x.q[32 * b + k];
      if (F::halves) {
        for (int h = 0; h < 2; ++h) acc[r] = std::fma(static_cast<float>(dot[h]), at(strip, 16 * h + r) * dx, acc[r]);
      } else {
        acc[r] = std::fma(static_cast<float>(dot[0] + dot[1]), at(strip, r) * dx, acc[r]);
      }
      if (!F::min) continue;
      const std::byte* mins = strip + F::kScales;
      if (F::halves) {
        for (int h = 0; h < 2; ++h) acc[r] = std::fma(-at(mins, 16 * h + r), dx * static_cast<float>(s[h]), acc[r]);
      } else {
        acc[r] = std::fma(-at(mins, r), dx * static_cast<float>(s[0] + s[1]), acc[r]);
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

inline __m256 floats(const std::byte* p, int i) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p) + 8 * i); }

// kT tokens; out [kT, 16].
template <class F, int kAdds, int kT>
void times_avx2(const std::byte* strip, int offset, const Tokens& x, float* out) {
  const int64_t blocks = x.cols / 32;
  __m256 acc[kT][2];
  for (int t = 0; t < kT; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b, strip += F::kBlock) {
    __m256i dots[kT][2][2];
    dots_avx2<kAdds, F::halves, kT>(reinterpret_cast<const uint8_t*>(strip + F::kScales + F::kMins), x.q + 32 * b, x.cols, dots);
    for (int t = 0; t < kT; ++t) {
      const int32_t* s = x.sums + (t * blocks + b) * 2;
      const float dx = x.scale[t * blocks + b];
      const __m256 dxs = _mm256_set1_ps(dx);
      const int32_t sum[2] = {F::halves ? s[0] : s[0] + s[1], s[1]};
      for (int h = 0; h < (F::halves ? 2 : 1); ++h) {
        const __m256i over = _mm256_set1_epi32(kAdds == 0 ? 0 : offset * sum[h]);
        for (int r = 0; r < 2; ++r)
          acc[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(dots[t][h][r], over)), _mm256_mul_ps(floats(strip, 2 * h + r), dxs), acc[t][r]);
      }
      if constexpr (F::min)
        for (int h = 0; h < (F::halves ? 2 : 1); ++h)
          for (int r = 0; r < 2; ++r)
            acc[t][r] = _mm256_fnmadd_ps(floats(strip + F::kScales, 2 * h + r), _mm256_set1_ps(dx * static_cast<float>(sum[h])), acc[t][r]);
    }
  }
  for (int t = 0; t < kT; ++t)
    for (int r = 0; r < 2; ++r) _mm256_storeu_ps(out + 16 * t + 8 * r, acc[t][r]);
}

template <class F, int kAdds>
int tile_avx2(const std::byte* strip, int offset, const Tokens& x, int64_t tokens, float* out) {
  if (tokens >= 4) return times_avx2<F, kAdds, 4>(strip, offset, x, out), 4;
  if (tokens >= 2) return times_avx2<F, kAdds, 2>(strip, offset, x, out), 2;
  return times_avx2<F, kAdds, 1>(strip, offset, x, out), 1;
}

}  // namespace
}  // namespace ingot
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif
namespace ingot {
namespace {

inline __m512i four_columns(const int8_t* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}

// kT tokens; out [kT, 16].
template <class F, int kT>
void times_vnni(const std::byte* strip, int offset, const Tokens& x, float* out) {
  const int64_t blocks = x.cols / 32;
  __m512 acc[kT];
  for (int t = 0; t < kT; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b, strip += F::kBlock) {
    const auto* codes = strip + F::kScales + F::kMins;
    __m512i u[8];
    for (int j = 0; j < 8; ++j) u[j] = _mm512_loadu_si512(codes + 64 * j);
    const __m512 w0 = _mm512_loadu_ps(strip), w1 = F::halves ? _mm512_loadu_ps(strip + 64) : w0;
    for (int t = 0; t < kT; ++t) {
      const int8_t* q = x.q + t * x.cols + 32 * b;
      const int32_t* s = x.sums + (t * blocks + b) * 2;
      const float dx = x.scale[t * blocks + b];
      const __m512 dxs = _mm512_set1_ps(dx);
      __m512i a0 = _mm512_set1_epi32(-offset * (F::halves ? s[0] : s[0] + s[1]));
      __m512i a1 = F::halves ? _mm512_set1_epi32(-offset * s[1]) : _mm512_setzero_si512();
      for (int j = 0; j < 4; ++j) {
        a0 = _mm512_dpbusd_epi32(a0, u[j], four_columns(q + 4 * j));
        a1 = _mm512_dpbusd_epi32(a1, u[4 + j], four_columns(q + 16 + 4 * j));
      }
      if constexpr (F::halves) {
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a0), _mm512_mul_ps(w0, dxs), acc[t]);
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a1), _mm512_mul_ps(w1, dxs), acc[t]);
      } else {
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(a0, a1)), _mm512_mul_ps(w0, dxs), acc[t]);
      }
      if constexpr (F::min && F::halves) {
        acc[t] = _mm512_fnmadd_ps(_mm512_loadu_ps(strip + F::kScales), _mm512_set1_ps(dx * static_cast<float>(s[0])), acc[t]);
        acc[t] = _mm512_fnmadd_ps(_mm512_loadu_ps(strip + F::kScales + 64), _mm512_set1_ps(dx * static_cast<float>(s[1])), acc[t]);
      } else if constexpr (F::min) {
        acc[t] = _mm512_fnmadd_ps(_mm512_loadu_ps(strip + F::kScales), _mm512_set1_ps(dx * static_cast<float>(s[0] + s[1])), acc[t]);
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
namespace {

constexpr int kTileTokens = 8;

template <class F>
int times(const std::byte* strip, const LevelReader& r, const Tokens& x, int64_t tokens, float* out) {
  const int offset = offset_of(r);
#if defined(__x86_64__)
  if (machine_has_vnni()) {
    if (tokens >= kTileTokens) return times_vnni<F, kTileTokens>(strip, offset, x, out), kTileTokens;
    if (tokens >= 2) return times_vnni<F, 2>(strip, offset, x, out), 2;
    return times_vnni<F, 1>(strip, offset, x, out), 1;
  }
  if (machine_has_byte_products()) {
    switch (adds_of(r.high - r.low)) {
      case 8: return tile_avx2<F, 8>(strip, offset, x, tokens, out);
      case 4: return tile_avx2<F, 4>(strip, offset, x, tokens, out);
      case 2: return tile_avx2<F, 2>(strip, offset, x, tokens, out);
      case 1: return tile_avx2<F, 1>(strip, offset, x, tokens, out);
      default: return tile_avx2<F, 0>(strip, offset, x, tokens, out);
    }
  }
#endif
  (void)tokens;
  times_one<F>(strip, offset, x, out);
  return 1;
}

}  // namespace

bool can_multiply_levels(DType type) { return machine_has_byte_products() && find_levels(type); }

int64_t level_strip_bytes(DType type, int64_t cols) {
  int64_t bytes = 0;
  with_form(*find_levels(type), [&](auto form) { bytes = cols / 32 * decltype(form)::kBlock; });
  return bytes;
}

void read_level_strip(const WeightMatrix& w, int64_t strip, std::byte* out) {
  const LevelReader& r = *find_levels(w.type);
  const int64_t values = info(w.type).block, bytes = info(w.type).bytes, rows = std::min<int64_t>(16, w.rows - strip * 16);
  with_form(r, [&](auto form) {
    using F = decltype(form);
    if (rows < 16) std::memset(out, 0, static_cast<size_t>(w.cols / 32 * F::kBlock));
    Levels l;
    const int offset = offset_of(r);
    for (int64_t lane = 0; lane < rows; ++lane) {
      const auto* in = reinterpret_cast<const uint8_t*>(w.row(strip * 16 + lane));
      std::byte* to = out;
      for (int64_t i = 0; i < w.cols; i += values, in += bytes) {
        r.read(in, &l);
        for (int64_t k = 0; k < values; ++k) l.level[k] = static_cast<int8_t>(l.level[k] + offset);  // as a byte
        for (int64_t b = 0; b < values / 32; ++b, to += F::kBlock) {
          std::memcpy(to + 4 * lane, &l.scale[2 * b], 4);
          if (F::halves) std::memcpy(to + 64 + 4 * lane, &l.scale[2 * b + 1], 4);
          if (F::min) std::memcpy(to + F::kScales + 4 * lane, &l.min[2 * b], 4);
          if (F::min && F::halves) std::memcpy(to + F::kScales + 64 + 4 * lane, &l.min[2 * b + 1], 4);
          std::byte* codes = to + F::kScales + F::kMins + 4 * lane;
          for (int64_t j = 0; j < 8; ++j) {
            uint32_t v;
            std::memcpy(&v, l.level + 32 * b + 4 * j, 4);
            std::memcpy(codes + 64 * j, &v, 4);
          }
        }
      }
    }
  });
}

void multiply_level_strip(const WeightMatrix& w, int64_t strip, const std::byte* levels, const Int8Activations& x, float* y) {
  const auto rows = static_cast<size_t>(std::min<int64_t>(16, w.rows - strip * 16));
  const LevelReader& r = *find_levels(w.type);
  with_form(r, [&](auto form) {
    float out[kTileTokens * 16];
    for (int64_t t = 0; t < x.tokens;) {
      const Tokens some{x.q.data() + t * x.cols, x.scale.data() + t * x.cols / 32, x.sums.data() + t * x.cols / 16, x.cols};
      const int n = times<decltype(form)>(levels, r, some, x.tokens - t, out);
      for (int i = 0; i < n; ++i) std::memcpy(y + (t + i) * w.rows + strip * 16, out + 16 * i, rows * 4);
      t += n;
    }
  });
}

}  // namespace ingot
