// Q4_K and Q5_K: super-blocks of 256 values in eight blocks of 32, value = d * scale * q - dmin * min with a
// 6-bit scale and a 6-bit min for each block, d and dmin f16 for the super-block, q of 4 or 5 bits. Two
// super-blocks are encoded at a time, their sixteen blocks one in each lane.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"

#define INGOT_TARGET_FILE "quant/k_affine.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"

constexpr int kBlock = 32, kSuper = 256, kGroup = 512;
constexpr float kLimit = 65504.0f * 63;

// What a block is stored as, one in each lane: value = scale * q - min.
struct Affine {
  F32 scale, min;
};

// The sums of one assignment of codes to a block, in each lane; y is the value less the block's mean.
struct Sums {
  F32 q, qq, qy;  // of w q, w q^2, w q y
};

// A candidate range: code 0 .. kMax + level of the whole range, moved up by shift.
struct Range {
  float level, shift;
};

// Chosen greedily from 399 (level, shift) pairs: each the one that lowers most the mean least error over
// blocks of the tiny Llama's weights and of gaussian and student-t values, given those before it.
template <int kMax>
struct Ranges;
template <>
struct Ranges<15> {
  static constexpr Range kAll[] = {{0.25f, -0.125f}, {0.25f, -0.375f}, {0.25f, 0.125f}, {-0.75f, -0.125f},
                                   {0.5f, -0.375f},  {0.25f, 0.0f},    {0.25f, 0.25f},  {0.25f, -0.5f},
                                   {-0.25f, 0.0f},   {-1.0f, -0.25f},  {-0.75f, 0.0f},  {-1.75f, -0.125f}};
};
template <>
struct Ranges<31> {
  static constexpr Range kAll[] = {{0.25f, -0.125f},  {-0.75f, -0.125f}, {0.25f, -0.375f}, {0.25f, 0.125f},
                                   {-1.75f, -0.125f}, {-0.25f, 0.0f},    {-1.0f, -0.125f}, {-1.0f, 0.125f},
                                   {-0.25f, 0.25f},   {-2.75f, -0.125f}, {-2.0f, -0.125f}, {-2.0f, 0.125f}};
};

// Sixteen blocks and what can be asked of them.
template <int kMax, bool kWeighted>
struct Blocks {
  F32 x[kBlock];                       // values
  F32 y[kBlock];                       // values less the (weighted) mean
  F32 w[kWeighted ? kBlock : 1];       // weights
  F32 total, inv_total, mean, wmean2;  // sum of weights, its inverse, mean of x, total * mean^2
  F32 lo, hi;                          // range of the values and 0
  F32 mass;                            // what a block's error counts beside the others'

  static F32 code(F32 v) { return clamp(round(v), splat(0.0f), splat(static_cast<float>(kMax))); }

  INGOT_NOINLINE void read(const float* values, const float* importance) {
    to_lanes<kBlock>(values, -kLimit, kLimit, x);
    mass = splat(1.0f);
    if constexpr (kWeighted) mass = importance_to_lanes<kBlock>(importance, w);
    F32 sum = splat(0.0f), weights = splat(0.0f);
    lo = hi = splat(0.0f);
    for (int k = 0; k < kBlock; ++k) {
      lo = min(lo, x[k]);
      hi = max(hi, x[k]);
      if constexpr (kWeighted) {
        sum = fma(w[k], x[k], sum);
        weights = weights + w[k];
      } else {
        sum = sum + x[k];
      }
    }
    total = kWeighted ? weights : splat(static_cast<float>(kBlock));
    inv_total = splat(1.0f) / total;
    mean = sum * inv_total;
    wmean2 = total * mean * mean;
    for (int k = 0; k < kBlock; ++k) y[k] = x[k] - mean;
  }

  // The sums for codes round(x * inv + offset), of kN candidates at once.
  template <int kN>
  INGOT_NOINLINE void assign(const F32* inv, const F32* offset, Sums* out) const {
    F32 a[kN], b[kN], q1[kN], qq[kN], qy[kN];  // copies: nothing here aliases, so they stay in registers
    for (int c = 0; c < kN; ++c) {
      a[c] = inv[c];
      b[c] = offset[c];
      q1[c] = qq[c] = qy[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 q = code(fma(x[k], a[c], b[c]));
        F32 wq = q;
        if constexpr (kWeighted) wq = w[k] * q;
        q1[c] = q1[c] + wq;
        qq[c] = fma(wq, q, qq[c]);
        qy[c] = fma(wq, y[k], qy[c]);
      }
    for (int c = 0; c < kN; ++c) out[c] = {q1[c], qq[c], qy[c]};
  }

  // Least squares for scale and min given the codes. *gain is how much of the energy of y they explain: the
  // most gain is the least error, with no second pass over the values. A min is never negative: where it
  // would be, the best scale without one.
  Affine solve(const Sums& s, F32* gain) const {
    const F32 zero = splat(0.0f), one = splat(1.0f);
    const F32 variance = fnma(s.q * inv_total, s.q, s.qq);
    const Mask flat = variance < fma(s.qq, splat(1e-5f), splat(1e-30f));
    const F32 slope = select(flat, zero, s.qy / select(flat, one, variance));
    const F32 m = fma(slope, s.q * inv_total, zero - mean);
    const F32 qx = fma(mean, s.q, s.qy);
    const F32 slope0 = max(zero, qx / select(zero < s.qq, s.qq, one));
    const Mask no_min = m < zero, rising = zero < slope;
    *gain = select(no_min, slope0 * qx - wmean2, select(rising, slope * s.qy, zero));
    return {select(no_min, slope0, max(zero, slope)), select(no_min, zero, m)};
  }

  // The fit before scale and min are rounded: a few ranges, then the best one's codes and fit once more.
  INGOT_NOINLINE Affine search() const {
    constexpr int kN = 4;
    constexpr int kRanges = sizeof Ranges<kMax>::kAll / sizeof(Range);
    static_assert(kRanges % kN == 0);
    const F32 zero = splat(0.0f), unit = inverse_or_zero(hi - lo);
    F32 most = splat(-3e38f), inv[kN], offset[kN];
    Affine best{zero, zero};
    Sums s[kN];
    const auto keep_better = [&](const Sums& sums) __attribute__((always_inline)) {
      F32 gain;
      const Affine a = solve(sums, &gain);
      const Mask better = most < gain;
      most = select(better, gain, most);
      best.scale = select(better, a.scale, best.scale);
      best.min = select(better, a.min, best.min);
    };
    for (int first = 0; first < kRanges; first += kN) {
      for (int c = 0; c < kN; ++c) {
        const Range r = Ranges<kMax>::kAll[first + c];
        inv[c] = splat(kMax + r.level) * unit;
        offset[c] = fnma(lo, inv[c], splat(r.shift));
      }
      assign<kN>(inv, offset, s);
      for (int c = 0; c < kN; ++c) keep_better(s[c]);
    }
    inv[0] = inverse_or_zero(best.scale);
    offset[0] = best.min * inv[0];
    assign<1>(inv, offset, s);
    keep_better(s[0]);
    return best;
  }

  // The error of kN stored forms, codes chosen for each.
  template <int kN>
  INGOT_NOINLINE void errors(const Affine* stored, F32* err) const {
    F32 scale[kN], m[kN], inv[kN], sum[kN];
    for (int c = 0; c < kN; ++c) {
      scale[c] = stored[c].scale;
      m[c] = stored[c].min;
      inv[c] = inverse_or_zero(scale[c]);
      sum[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 v = x[k] + m[c];
        const F32 e = fnma(scale[c], code(v * inv[c]), v);
        F32 we = e;
        if constexpr (kWeighted) we = w[k] * e;
        sum[c] = fma(we, e, sum[c]);
      }
    for (int c = 0; c < kN; ++c) err[c] = sum[c];
  }
};

// The stored scales of two super-blocks.
struct Scales {
  float d[16], dmin[16];       // f16 values, the same for the eight lanes of a super-block
  float scale6[16], min6[16];  // integers 0 .. 63
};

// The f16 unit such that `most` is 63 of it: never infinite, and 0 only where even one smallest unit is too
// much.
inline float unit(float most) {
  const float u = round_f16(min_of(most / 63.0f, 65504.0f));
  return u == 0.0f && most >= 0x1p-25f ? 0x1p-24f : u;
}

// Chooses scale6 and min6 for the units in g: three scales beside the exact one's rounding, each with the min
// that suits it best. Returns the error of each block.
template <int kMax, bool kWeighted>
INGOT_NOINLINE F32 round_scales(const Blocks<kMax, kWeighted>& blocks, const Affine& exact, Scales* g) {
  constexpr int kN = 3;
  const F32 zero = splat(0.0f), top = splat(63.0f);
  const F32 d = load(g->d), dmin = load(g->dmin), per_dmin = inverse_or_zero(dmin);
  const F32 nearest = clamp(round(exact.scale * inverse_or_zero(d)), zero, top);
  Affine stored[kN];
  F32 s6[kN], m6[kN], inv[kN], offset[kN], err[kN];
  Sums sums[kN];
  for (int c = 0; c < kN; ++c) {
    s6[c] = clamp(nearest + splat(static_cast<float>(c - 1)), zero, top);
    stored[c].scale = s6[c] * d;
    inv[c] = inverse_or_zero(stored[c].scale);
    offset[c] = exact.min * inv[c];
  }
  blocks.template assign<kN>(inv, offset, sums);
  for (int c = 0; c < kN; ++c) {
    const F32 m = stored[c].scale * sums[c].q * blocks.inv_total - blocks.mean;
    m6[c] = clamp(round(m * per_dmin), zero, top);
    stored[c].min = m6[c] * dmin;
  }
  blocks.template errors<kN>(stored, err);
  F32 best_s = s6[1], best_m = m6[1], least = err[1];
  for (int c = 0; c < kN; c += 2) {
    const Mask better = err[c] < least;
    least = select(better, err[c], least);
    best_s = select(better, s6[c], best_s);
    best_m = select(better, m6[c], best_m);
  }
  // The min that suits the codes need not be the one that suits the codes it leads to: its neighbours too.
  F32 beside[2], err2[2];
  Affine near[2];
  for (int c = 0; c < 2; ++c) {
    beside[c] = clamp(best_m + splat(c == 0 ? -1.0f : 1.0f), zero, top);
    near[c] = {best_s * d, beside[c] * dmin};
  }
  blocks.template errors<2>(near, err2);
  for (int c = 0; c < 2; ++c) {
    const Mask better = err2[c] < least;
    least = select(better, err2[c], least);
    best_m = select(better, beside[c], best_m);
  }
  store(g->scale6, best_s);
  store(g->min6, best_m);
  return least;
}

// Least squares for d and dmin of each super-block given all its codes; kept where the error is really less,
// as both are rounded to f16 and codes change with them.
template <int kMax, bool kWeighted>
INGOT_NOINLINE void refit_units(const Blocks<kMax, kWeighted>& blocks, F32 err, Scales* g) {
  const F32 s6 = load(g->scale6), m6 = load(g->min6), mass = blocks.mass;
  const F32 inv = inverse_or_zero(s6 * load(g->d)), offset = m6 * load(g->dmin) * inv;
  Sums sums;
  blocks.template assign<1>(&inv, &offset, &sums);
  float ss[16], sm[16], mm[16], sx[16], mx[16];  // terms of the normal equations
  store(ss, mass * s6 * s6 * sums.qq);
  store(sm, mass * s6 * m6 * sums.q);
  store(mm, mass * m6 * m6 * blocks.total);
  store(sx, mass * s6 * fma(blocks.mean, sums.q, sums.qy));
  store(mx, mass * m6 * blocks.mean * blocks.total);
  float d[16], dmin[16], before[16], after[16];
  for (int first = 0; first < 16; first += 8) {
    double a = 0, b = 0, c = 0, u = 0, v = 0;
    for (int i = first; i < first + 8; ++i) {
      a += ss[i];
      b += sm[i];
      c += mm[i];
      u += sx[i];
      v += mx[i];
    }
    double fit_d = g->d[first], fit_m = g->dmin[first];
    const double det = a * c - b * b;
    if (c == 0 && a > 0) {
      fit_d = u / a;
    } else if (det > 1e-7 * a * c) {
      fit_d = (u * c - b * v) / det;
      fit_m = (b * u - a * v) / det;
    }
    const bool sound = fit_d > 0 && fit_d <= 65504 && fit_m >= 0 && fit_m <= 65504;  // false for NaN too
    for (int i = first; i < first + 8; ++i) {
      d[i] = sound ? round_f16(static_cast<float>(fit_d)) : g->d[i];
      dmin[i] = sound ? round_f16(static_cast<float>(fit_m)) : g->dmin[i];
    }
  }
  const Affine refitted{s6 * load(d), m6 * load(dmin)};
  F32 err_refitted;
  blocks.template errors<1>(&refitted, &err_refitted);
  store(before, mass * err);
  store(after, mass * err_refitted);
  for (int first = 0; first < 16; first += 8) {
    float old_error = 0, new_error = 0;
    for (int i = first; i < first + 8; ++i) {
      old_error += before[i];
      new_error += after[i];
    }
    if (!(new_error < old_error)) continue;
    std::memcpy(g->d + first, d + first, 8 * sizeof(float));
    std::memcpy(g->dmin + first, dmin + first, 8 * sizeof(float));
  }
}

template <int kMax, bool kWeighted>
INGOT_NOINLINE void fit_group(const float* values, const float* importance, Scales* g) {
  Blocks<kMax, kWeighted> blocks;
  blocks.read(values, importance);
  const Affine exact = blocks.search();
  float scale[16], mins[16];
  store(scale, exact.scale);
  store(mins, exact.min);
  for (int first = 0; first < 16; first += 8) {
    float most_scale = 0, most_min = 0;
    for (int i = first; i < first + 8; ++i) {
      most_scale = max_of(scale[i], most_scale);
      most_min = max_of(mins[i], most_min);
    }
    const float d = unit(most_scale), dmin = unit(most_min);
    for (int i = first; i < first + 8; ++i) {
      g->d[i] = d;
      g->dmin[i] = dmin;
    }
  }
  refit_units(blocks, round_scales(blocks, exact, g), g);
}

// The bytes of one super-block whose scales are the eight lanes from `lane`.
template <int kBits>
INGOT_NOINLINE void pack(const float* x, const Scales& g, int lane, uint8_t* out) {
  constexpr int kMax = (1 << kBits) - 1;
  const float* sc = g.scale6 + lane;
  const float* mn = g.min6 + lane;
  float unit_in[16] = {g.d[lane], g.dmin[lane]};
  uint16_t h[16];
  store_f16(h, load(unit_in));
  std::memcpy(out, h, 4);
  uint8_t* p = out + 4;
  for (int j = 0; j < 4; ++j) {
    const int s0 = static_cast<int>(sc[j]), s1 = static_cast<int>(sc[j + 4]);
    const int m0 = static_cast<int>(mn[j]), m1 = static_cast<int>(mn[j + 4]);
    p[j] = static_cast<uint8_t>(s0 | s1 >> 4 << 6);
    p[j + 4] = static_cast<uint8_t>(m0 | m1 >> 4 << 6);
    p[j + 8] = static_cast<uint8_t>((s1 & 15) | (m1 & 15) << 4);
  }
  uint8_t* high = out + 16;
  uint8_t* low = kBits == 5 ? out + 48 : out + 16;
  F32 inv[8], off[8];
  for (int j = 0; j < 8; ++j) {
    inv[j] = inverse_or_zero(splat(g.d[lane] * sc[j]));
    off[j] = splat(g.dmin[lane] * mn[j]);
  }
  for (int half = 0; half < 32; half += 16) {
    I32 hbits = splat_i(0);
    for (int c = 0; c < 4; ++c) {
      I32 q[2];
      for (int b = 0; b < 2; ++b) {
        const int j = 2 * c + b;
        const F32 v = load(x + 32 * j + half) + off[j];
        q[b] = to_int(clamp(round(v * inv[j]), splat(0.0f), splat(static_cast<float>(kMax))));
      }
      const I32 nibble = splat_i(15);
      store_u8(low + 32 * c + half, (q[0] & nibble) | shl<4>(q[1] & nibble));
      if constexpr (kBits == 5) hbits = shr<2>(hbits) | shl<6>(shr<4>(q[0])) | shl<7>(shr<4>(q[1]));
    }
    if constexpr (kBits == 5) store_u8(high + half, hbits);
  }
}

template <int kBits>
constexpr int64_t bytes_of() {
  return kBits == 5 ? 176 : 144;
}

template <int kBits, bool kWeighted>
inline void encode_rows(const float* x, int64_t n, int64_t row, const float* importance, std::byte* out) {
  constexpr int kMax = (1 << kBits) - 1;
  uint8_t* p = reinterpret_cast<uint8_t*>(out);
  Scales g;
  float xs[kGroup], ws[kGroup];
  for (int64_t i = 0; i < n; i += kGroup) {
    const bool whole = i + kGroup <= n;
    const float* src = x + i;
    if (!whole) {
      std::memcpy(xs, src, kSuper * 4);
      std::memset(xs + kSuper, 0, kSuper * 4);
      src = xs;
    }
    if constexpr (kWeighted) {
      std::memcpy(ws, importance + i % row, kSuper * 4);
      std::memcpy(ws + kSuper, importance + (i + kSuper) % row, kSuper * 4);
    }
    fit_group<kMax, kWeighted>(src, ws, &g);
    pack<kBits>(src, g, 0, p);
    p += bytes_of<kBits>();
    if (whole) {
      pack<kBits>(src + kSuper, g, 8, p);
      p += bytes_of<kBits>();
    }
  }
}

template <int kBits>
inline void encode(const float* x, int64_t n_rows, int64_t row, const float* importance, std::byte* out) {
  if (importance)
    encode_rows<kBits, true>(x, n_rows * row, row, importance, out);
  else
    encode_rows<kBits, false>(x, n_rows * row, row, nullptr, out);
}

template <int kBits>
inline void decode(const std::byte* in, int64_t n, float* out) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < n; i += kSuper, p += bytes_of<kBits>(), out += kSuper) {
    uint16_t h[16] = {};
    std::memcpy(h, p, 4);
    float unit_of[16];
    store(unit_of, load_f16(h));
    const uint8_t* s = p + 4;
    const uint8_t* high = p + 16;
    const uint8_t* low = kBits == 5 ? p + 48 : p + 16;
    const I32 nibble = splat_i(15), one = splat_i(1);
    for (int c = 0; c < 4; ++c)
      for (int b = 0; b < 2; ++b) {
        const int j = 2 * c + b;
        const int sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        const int mn = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        const F32 d = splat(unit_of[0] * static_cast<float>(sc)),
                  m = splat(unit_of[1] * static_cast<float>(mn));
        for (int half = 0; half < 32; half += 16) {
          I32 q = load_u8(low + 32 * c + half);
          q = (b ? shr<4>(q) : q) & nibble;
          if constexpr (kBits == 5) {
            uint8_t shifted[16];
            for (int l = 0; l < 16; ++l) shifted[l] = static_cast<uint8_t>(high[half + l] >> j);
            q = q | shl<4>(load_u8(shifted) & one);
          }
          store(out + 32 * j + half, d * to_float(q) - m);
        }
      }
  }
}

void encode_q4_k(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) {
  encode<4>(x, r, n, w, out);
}
void encode_q5_k(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) {
  encode<5>(x, r, n, w, out);
}
void decode_q4_k(const std::byte* in, int64_t n, float* out) { decode<4>(in, n, out); }
void decode_q5_k(const std::byte* in, int64_t n, float* out) { decode<5>(in, n, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc4(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) {
  INGOT_DISPATCH(encode_q4_k)(x, r, n, w, out);
}
void enc5(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) {
  INGOT_DISPATCH(encode_q5_k)(x, r, n, w, out);
}
void dec4(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q4_k)(in, n, out); }
void dec5(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q5_k)(in, n, out); }
}  // namespace

extern const Codec kCodecQ4_K, kCodecQ5_K;
// The negative end is what min reaches: 63 units of at most 65504.
const Codec kCodecQ4_K{DType::kQ4_K, 1, enc4, dec4, false, 65504.0f * 63};
const Codec kCodecQ5_K{DType::kQ5_K, 1, enc5, dec5, false, 65504.0f * 63};

}  // namespace ingot
#endif
