// Q4_K and Q5_K: super-blocks of 256 values in eight blocks of 32, value = d * scale * q - dmin * min with a 6-bit
// scale and a 6-bit min for each block, d and dmin f16 for the super-block, q of 4 or 5 bits.
// Two super-blocks are encoded at a time, their sixteen blocks one in each lane.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"

#define INGOT_TARGET_FILE "quant/k_affine.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"

constexpr int kBlock = 32, kSuper = 256, kGroup = 512;

// What a block is stored as, one in each lane: value = scale * q - min.
struct Affine {
  F32 scale, min;
};

// The sums of one assignment of codes to a block, in each lane.
struct Sums {
  F32 q, qq, qy;  // of w q, w q^2, w q y
};

template <int kMax, bool kWeighted>
struct Encoder {
  F32 x[kBlock];  // values
  F32 y[kBlock];  // values less the (weighted) mean
  F32 w[kWeighted ? kBlock : 1];
  F32 total, inv_total, mean, wmean2;  // sum of weights, its inverse, mean of x, total * mean^2
  F32 lo, hi;                          // range of the values and 0
  F32 mass;                            // what a block's error counts beside the others'

  static F32 code(F32 v) { return clamp(round(v), splat(0.0f), splat(static_cast<float>(kMax))); }

  void read(const float* values, const float* importance) {
    to_lanes<kBlock>(values, -kLimit, kLimit, x);
    mass = splat(1.0f);
    if constexpr (kWeighted) mass = importance_to_lanes<kBlock>(importance, w);
    F32 s = splat(0.0f), t = splat(0.0f);
    lo = hi = splat(0.0f);
    F32 least = x[0];
    for (int k = 0; k < kBlock; ++k) {
      lo = min(lo, x[k]);
      hi = max(hi, x[k]);
      least = min(least, x[k]);
      if constexpr (kWeighted) {
        s = fma(w[k], x[k], s);
        t = t + w[k];
      } else {
        s = s + x[k];
      }
    }
    total = kWeighted ? t : splat(static_cast<float>(kBlock));
    inv_total = splat(1.0f) / total;
    mean = s * inv_total;
    wmean2 = total * mean * mean;
    for (int k = 0; k < kBlock; ++k) y[k] = x[k] - mean;
  }

  // Codes round(x * inv + offset) for kN candidates at once.
  template <int kN>
  void assign(const F32* inv, const F32* offset, Sums* out) const {
    for (int c = 0; c < kN; ++c) out[c] = {splat(0.0f), splat(0.0f), splat(0.0f)};
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 q = code(fma(x[k], inv[c], offset[c]));
        F32 wq = q;
        if constexpr (kWeighted) wq = w[k] * q;
        out[c].q = out[c].q + wq;
        out[c].qq = fma(wq, q, out[c].qq);
        out[c].qy = fma(wq, y[k], out[c].qy);
      }
  }

  // Least squares for scale and min given the codes. *gain is how much of the energy of y they explain: the most
  // gain is the least error, with no second pass over the values. A min is never negative: where it would be, the
  // best scale without one.
  Affine solve(const Sums& s, F32* gain) const {
    const F32 zero = splat(0.0f);
    const F32 var = fnma(s.q * inv_total, s.q, s.qq);
    const Mask flat = var < s.qq * splat(1e-5f) + splat(1e-30f);
    const F32 slope = select(flat, zero, s.qy / select(flat, splat(1.0f), var));
    const F32 m = fma(slope, s.q * inv_total, zero - mean);
    const F32 free_gain = slope * s.qy;
    const F32 qx = fma(mean, s.q, s.qy);
    const Mask any = zero < s.qq;
    const F32 slope0 = max(zero, qx / select(any, s.qq, splat(1.0f)));
    const F32 gain0 = slope0 * qx - wmean2;
    const Mask no_min = m < zero;
    const Mask rising = zero < slope;
    *gain = select(no_min, gain0, select(rising, free_gain, zero));
    return {select(no_min, slope0, max(zero, slope)), select(no_min, zero, m)};
  }

  // The unconstrained fit: a few ranges, then codes and fit in turn.
  Affine search() const {
    constexpr int kN = 4;
    const F32 range_inv = inverse_or_zero(hi - lo);
    F32 best_gain = splat(-3e38f);
    Affine best{splat(0.0f), splat(0.0f)};
    for (int c0 = 0; c0 < kCandidates; c0 += kN) {
      F32 inv[kN], offset[kN];
      Sums s[kN];
      for (int c = 0; c < kN; ++c) {
        inv[c] = splat(kLevels[c0 + c] + kMax) * range_inv;
        offset[c] = splat(0.0f) - lo * inv[c] + splat(kShift[c0 + c]);
      }
      assign<kN>(inv, offset, s);
      for (int c = 0; c < kN; ++c) {
        F32 gain;
        const Affine a = solve(s[c], &gain);
        const Mask better = best_gain < gain;
        best_gain = select(better, gain, best_gain);
        best.scale = select(better, a.scale, best.scale);
        best.min = select(better, a.min, best.min);
      }
    }
    for (int i = 0; i < kLloyd; ++i) {
      const F32 inv = inverse_or_zero(best.scale), offset = best.min * inv;
      Sums s;
      assign<1>(&inv, &offset, &s);
      F32 gain;
      const Affine a = solve(s, &gain);
      const Mask better = best_gain < gain;
      best_gain = select(better, gain, best_gain);
      best.scale = select(better, a.scale, best.scale);
      best.min = select(better, a.min, best.min);
    }
    return best;
  }

  // The error of kN stored forms, codes chosen for each.
  template <int kN>
  void errors(const Affine* a, F32* err) const {
    F32 inv[kN];
    for (int c = 0; c < kN; ++c) {
      inv[c] = inverse_or_zero(a[c].scale);
      err[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 v = x[k] + a[c].min;
        const F32 e = fnma(a[c].scale, code(v * inv[c]), v);
        F32 we = e;
        if constexpr (kWeighted) we = w[k] * e;
        err[c] = fma(we, e, err[c]);
      }
  }

  static constexpr float kLimit = 65504.0f * 63;
  static constexpr int kCandidates = 12, kLloyd = 2;
  static constexpr float kLevels[kCandidates] = {-1.0f, -0.7f, -0.4f, -0.2f, 0, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f, 1.2f, 1.5f};
  static constexpr float kShift[kCandidates] = {};
};

struct Super {
  float d[16], dmin[16];          // f16 values, the same for the eight lanes of a super-block
  float scale6[16], min6[16];     // integers 0 .. 63
};

inline float round_f16(float v) {
  float in[16] = {v}, out[16];
  uint16_t h[16];
  store_f16(h, load(in));
  store(out, load_f16(h));
  return out[0];
}

// The f16 unit such that `most` is 63 of it; never 0 for what can be stored at all, never infinite.
inline float unit(float most) {
  const float u = round_f16(most / 63.0f);
  if (u > 65504.0f) return 65504.0f;
  return u == 0.0f && most >= 0x1p-25f ? 0x1p-24f : u;
}

template <int kMax, bool kWeighted>
inline void fit_group(const float* values, const float* importance, Super* out) {
  Encoder<kMax, kWeighted> e;
  e.read(values, importance);
  const Affine a = e.search();
  float scale[16], mn[16];
  store(scale, a.scale);
  store(mn, a.min);
  for (int s = 0; s < 16; s += 8) {
    float most_scale = 0, most_min = 0;
    for (int i = s; i < s + 8; ++i) {
      most_scale = scale[i] > most_scale ? scale[i] : most_scale;
      most_min = mn[i] > most_min ? mn[i] : most_min;
    }
    for (int i = s; i < s + 8; ++i) {
      out->d[i] = unit(most_scale);
      out->dmin[i] = unit(most_min);
    }
  }
  const F32 d = load(out->d), dmin = load(out->dmin), zero = splat(0.0f), top = splat(63.0f);
  const F32 s0 = clamp(round(a.scale * inverse_or_zero(d)), zero, top);
  const F32 m0 = clamp(round(a.min * inverse_or_zero(dmin)), zero, top);
  F32 best = splat(3e38f), bs = s0, bm = m0;
  for (int ds = -1; ds <= 1; ++ds) {
    const F32 s6 = clamp(s0 + splat(static_cast<float>(ds)), zero, top);
    Affine cand[3];
    F32 m6[3], err[3];
    for (int c = 0; c < 3; ++c) {
      m6[c] = clamp(m0 + splat(static_cast<float>(c - 1)), zero, top);
      cand[c] = {s6 * d, m6[c] * dmin};
    }
    e.template errors<3>(cand, err);
    for (int c = 0; c < 3; ++c) {
      const Mask better = err[c] < best;
      best = select(better, err[c], best);
      bs = select(better, s6, bs);
      bm = select(better, m6[c], bm);
    }
  }
  store(out->scale6, bs);
  store(out->min6, bm);
}

// The bytes of one super-block whose scales are the eight lanes from `lane`.
template <int kBits>
inline void pack(const float* x, const Super& g, int lane, uint8_t* out) {
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
      if constexpr (kBits == 5)
        hbits = shr<2>(hbits) | shl<6>(shr<4>(q[0])) | shl<7>(shr<4>(q[1]));
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
  Super g;
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
        const F32 d = splat(unit_of[0] * static_cast<float>(sc)), m = splat(unit_of[1] * static_cast<float>(mn));
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

void encode_q4_k(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) { encode<4>(x, r, n, w, out); }
void encode_q5_k(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) { encode<5>(x, r, n, w, out); }
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
