// Q2_K, Q4_K and Q5_K: super-blocks of 256 values, value = d * scale * q - dmin * min, d and dmin f16 for the super-block. Q4_K and Q5_K: eight blocks of 32 with
// a 6-bit scale and a 6-bit min each, q of 4 or 5 bits; two super-blocks are encoded at a time, their sixteen blocks one in each lane. Q2_K: sixteen blocks of 16
// with 4-bit scales and mins, q of 2 bits.
#include <cfloat>
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"

#define INGOT_TARGET_FILE "quant/k_affine.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/affine-inl.h"

constexpr int kSuper = 256;

// A type: the values of a block, its largest code, the largest scale and min.
template <int kBlock_, int kMax_, int kTop_>
struct Kind {
  static constexpr int kBlock = kBlock_, kMax = kMax_, kTop = kTop_, kPer = kSuper / kBlock, kGroup = 16 * kBlock;  // lanes a super-block; values sixteen lanes
  static constexpr float kLimit = 65504.0f * kTop;
  // How often scales are chosen for units and units for scales: coarse ones move each other more.
  static constexpr int kRounds = kTop == 63 ? 1 : 3;
  template <bool kWeighted>
  using Blocks = AffineBlocks<kBlock, kMax, kWeighted>;
};
template <int kBits>
using KindOf = Kind<kBits == 2 ? 16 : 32, (1 << kBits) - 1, kBits == 2 ? 15 : 63>;

// The stored scales of sixteen blocks.
struct Scales {
  float d[16], dmin[16];       // f16 values, the same for the lanes of a super-block
  float scale6[16], min6[16];  // integers 0 .. kTop
};

// The f16 unit such that `most` is kTop of it: never infinite, and 0 only where even one smallest unit is too
// much.
template <int kTop>
inline float unit(float most) {
  const float u = round_f16(min_of(most / static_cast<float>(kTop), 65504.0f));
  return u == 0.0f && most >= 0x1p-25f ? 0x1p-24f : u;
}

// Chooses scale6 and min6 for the units in g: three scales beside the exact one's rounding, each with the min
// that suits it best. Returns the error of each block.
template <class K, bool kWeighted>
INGOT_NOINLINE F32 round_scales(const typename K::template Blocks<kWeighted>& blocks, const Affine& exact, Scales* g) {
  constexpr int kN = 3;
  const F32 zero = splat(0.0f), top = splat(static_cast<float>(K::kTop));
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
template <class K, bool kWeighted>
INGOT_NOINLINE void refit_units(const typename K::template Blocks<kWeighted>& blocks, F32 err, Scales* g) {
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
  for (int first = 0; first < 16; first += K::kPer) {
    double a = 0, b = 0, c = 0, u = 0, v = 0;
    for (int i = first; i < first + K::kPer; ++i) {
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
    for (int i = first; i < first + K::kPer; ++i) {
      d[i] = sound ? round_f16(static_cast<float>(fit_d)) : g->d[i];
      dmin[i] = sound ? round_f16(static_cast<float>(fit_m)) : g->dmin[i];
    }
  }
  const Affine refitted{s6 * load(d), m6 * load(dmin)};
  F32 err_refitted;
  blocks.template errors<1>(&refitted, &err_refitted);
  store(before, mass * err);
  store(after, mass * err_refitted);
  for (int first = 0; first < 16; first += K::kPer) {
    float old_error = 0, new_error = 0;
    for (int i = first; i < first + K::kPer; ++i) {
      old_error += before[i];
      new_error += after[i];
    }
    if (!(new_error < old_error)) continue;
    std::memcpy(g->d + first, d + first, K::kPer * sizeof(float));
    std::memcpy(g->dmin + first, dmin + first, K::kPer * sizeof(float));
  }
}

// Factors of d and of dmin: other units to begin with.
struct Beside {
  float d, dmin;
};
constexpr Beside kBeside[] = {{0.94f, 1.0f}, {1.06f, 1.0f}, {1.0f, 0.94f}, {1.0f, 1.06f}};

// Of every super-block of g the other one, where that has less error. `least` is that of g's blocks.
template <class K, bool kWeighted>
INGOT_NOINLINE void keep_better(const typename K::template Blocks<kWeighted>& blocks, const Scales& other, float* least, Scales* g) {
  const Affine stored{load(other.scale6) * load(other.d), load(other.min6) * load(other.dmin)};
  F32 of;
  blocks.template errors<1>(&stored, &of);
  float err[16];
  store(err, blocks.mass * of);
  for (int first = 0; first < 16; first += K::kPer) {
    double mine = 0, others = 0;
    for (int i = first; i < first + K::kPer; ++i) mine += least[i], others += err[i];
    if (!(others < mine)) continue;
    const size_t size = K::kPer * sizeof(float);
    std::memcpy(least + first, err + first, size);
    std::memcpy(g->d + first, other.d + first, size);
    std::memcpy(g->dmin + first, other.dmin + first, size);
    std::memcpy(g->scale6 + first, other.scale6 + first, size);
    std::memcpy(g->min6 + first, other.min6 + first, size);
  }
}

template <class K, bool kWeighted>
INGOT_NOINLINE void fit_group(const float* values, const float* importance, Effort effort, Scales* g) {
  typename K::template Blocks<kWeighted> blocks;
  blocks.read(values, importance, K::kLimit);
  const Affine exact = blocks.search(effort);
  float scale[16], mins[16];
  store(scale, exact.scale);
  store(mins, exact.min);
  for (int first = 0; first < 16; first += K::kPer) {
    float most_scale = 0, most_min = 0;
    for (int i = first; i < first + K::kPer; ++i) {
      most_scale = max_of(scale[i], most_scale);
      most_min = max_of(mins[i], most_min);
    }
    const float d = unit<K::kTop>(most_scale), dmin = unit<K::kTop>(most_min);
    for (int i = first; i < first + K::kPer; ++i) {
      g->d[i] = d;
      g->dmin[i] = dmin;
    }
  }
  const Scales first = *g;
  const int rounds = effort == Effort::kFast ? 1 : K::kRounds;
  for (int round = 0; round < rounds; ++round) refit_units<K, kWeighted>(blocks, round_scales<K, kWeighted>(blocks, exact, g), g);
  if (effort != Effort::kBest) return;
  float least[16];
  for (float& e : least) e = FLT_MAX;
  const Scales found = *g;
  keep_better<K, kWeighted>(blocks, found, least, g);
  for (const Beside& by : kBeside) {
    Scales other = first;
    for (int i = 0; i < 16; ++i) other.d[i] = round_f16(min_of(first.d[i] * by.d, 65504.0f)), other.dmin[i] = round_f16(min_of(first.dmin[i] * by.dmin, 65504.0f));
    for (int round = 0; round < rounds; ++round) refit_units<K, kWeighted>(blocks, round_scales<K, kWeighted>(blocks, exact, &other), &other);
    keep_better<K, kWeighted>(blocks, other, least, g);
  }
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

// Q2_K's: scales and mins in the nibbles of sixteen bytes, then codes (bits 0 and 1 of 32 bytes are of the first 32 values, 2 and 3 of the next), d and dmin.
INGOT_NOINLINE void pack2(const float* x, const Scales& g, uint8_t* out) {
  float unit_in[16] = {g.d[0], g.dmin[0]};
  uint16_t h[16];
  store_f16(h, load(unit_in));
  std::memcpy(out + 80, h, 4);
  store_u8(out, to_int(load(g.scale6)) | shl<4>(to_int(load(g.min6))));
  for (int half = 0; half < 2; ++half)
    for (int part = 0; part < 2; ++part) {
      I32 q[4];
      for (int j = 0; j < 4; ++j) {
        const int b = 8 * half + 2 * j + part;
        const F32 v = load(x + 16 * b) + splat(g.dmin[0] * g.min6[b]);
        q[j] = to_int(clamp(round(v * inverse_or_zero(splat(g.d[0] * g.scale6[b]))), splat(0.0f), splat(3.0f)));
      }
      store_u8(out + 16 + 32 * half + 16 * part, q[0] | shl<2>(q[1]) | shl<4>(q[2]) | shl<6>(q[3]));
    }
}

template <int kBits>
constexpr int64_t bytes_of() {
  return kBits == 5 ? 176 : kBits == 4 ? 144 : 84;
}

template <int kBits, bool kWeighted>
inline void encode_rows(const float* x, int64_t n, int64_t row, const EncodeContext& how, std::byte* out) {
  using K = KindOf<kBits>;
  uint8_t* p = reinterpret_cast<uint8_t*>(out);
  Scales g;
  float xs[K::kGroup], ws[K::kGroup];
  for (int64_t i = 0; i < n; i += K::kGroup) {
    const bool whole = i + K::kGroup <= n;
    const float* src = x + i;
    if (!whole) {
      std::memset(xs, 0, sizeof xs);
      std::memcpy(xs, src, kSuper * 4);
      src = xs;
    }
    if constexpr (kWeighted)
      for (int k = 0; k < K::kGroup; k += kSuper) std::memcpy(ws + k, how.importance + (i + k) % row, kSuper * 4);
    fit_group<K, kWeighted>(src, ws, how.effort, &g);
    if constexpr (kBits == 2) {
      pack2(src, g, p);
      p += bytes_of<kBits>();
    } else {
      pack<kBits>(src, g, 0, p);
      p += bytes_of<kBits>();
      if (!whole) continue;
      pack<kBits>(src + kSuper, g, 8, p);
      p += bytes_of<kBits>();
    }
  }
}

template <int kBits>
inline void encode(const float* x, int64_t n_rows, int64_t row, const EncodeContext& how, std::byte* out) {
  if (how.importance)
    encode_rows<kBits, true>(x, n_rows * row, row, how, out);
  else
    encode_rows<kBits, false>(x, n_rows * row, row, how, out);
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

void encode_q4_k(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  encode<4>(x, r, n, how, out);
}
void encode_q5_k(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  encode<5>(x, r, n, how, out);
}
void encode_q2_k(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  encode<2>(x, r, n, how, out);
}
void decode_q4_k(const std::byte* in, int64_t n, float* out) { decode<4>(in, n, out); }
void decode_q5_k(const std::byte* in, int64_t n, float* out) { decode<5>(in, n, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc4(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q4_k)(x, r, n, how, out);
}
void enc5(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q5_k)(x, r, n, how, out);
}
void enc2(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q2_k)(x, r, n, how, out);
}
void dec4(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q4_k)(in, n, out); }
void dec5(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q5_k)(in, n, out); }
}  // namespace

extern const Codec kCodecQ2_K, kCodecQ4_K, kCodecQ5_K;
// The negative end is what min reaches: 63 or 15 units of at most 65504.
const Codec kCodecQ2_K{DType::kQ2_K, 1, enc2, decode_q2_k, false, 65504.0f * 15};
const Codec kCodecQ4_K{DType::kQ4_K, 1, enc4, dec4, false, 65504.0f * 63};
const Codec kCodecQ5_K{DType::kQ5_K, 1, enc5, dec5, false, 65504.0f * 63};

}  // namespace ingot
#endif
