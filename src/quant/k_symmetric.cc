// Q6_K: super-blocks of 256 values in sixteen blocks of 16, value = d * scale * q with a signed 8-bit scale
// for each block, d f16 for the super-block, q of 6 bits from -32 to 31. One super-block is sixteen lanes.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"

#define INGOT_TARGET_FILE "quant/k_symmetric.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/symmetric-inl.h"

constexpr int kSuper = 256, kBytes = 210;
constexpr float kLimit = 65504.0f * 127 * 31;
// Chosen greedily as in k_affine.cc: codes of the block's largest value.
constexpr float kLevels[] = {-32.0f, -31.0f, -30.0f,  -29.0f,  -28.0f,  -27.0f,
                             -32.5f, -26.0f, -31.75f, -31.25f, -30.75f, -30.25f};

// The sum of lanes in f64.
inline double total(F32 v) {
  float lanes[16];
  store(lanes, v);
  double sum = 0;
  for (int i = 0; i < 16; ++i) sum += lanes[i];
  return sum;
}

struct Scales {
  float d;    // the value of the f16
  F32 scale;  // integers -128 .. 127
};

// The unit such that the scale of largest magnitude takes -128, the one code without a positive twin.
inline float unit(F32 scale) {
  float s[16];
  store(s, scale);
  // The magnitude is kept apart from the value: clang 19 at -O3 miscompiles `if (fabs(s[i]) > fabs(most))
  // most = s[i]` (found by the golden bytes of codec_test.cc).
  float most = 0, magnitude = 0;
  for (int i = 0; i < 16; ++i) {
    const float m = __builtin_fabsf(s[i]);
    if (!(m > magnitude)) continue;
    magnitude = m;
    most = s[i];
  }
  const float d = round_f16(max_of(min_of(most / -128.0f, 65504.0f), -65504.0f));
  if (d == 0.0f && magnitude >= 0x1p-25f) return most > 0 ? -0x1p-24f : 0x1p-24f;
  return d;
}

template <bool kWeighted>
inline Scales fit_super(const Symmetric<16, 31, kWeighted>& blocks) {
  constexpr int kN = 3;
  const F32 exact = blocks.search(kLevels);
  Scales g{unit(exact), splat(0.0f)};
  const F32 d = splat(g.d), lo = splat(-128.0f), hi = splat(127.0f);
  const F32 nearest = clamp(round(exact * inverse_or_zero(d)), lo, hi);
  F32 cand[kN], stored[kN], err[kN];
  for (int c = 0; c < kN; ++c) {
    cand[c] = clamp(nearest + splat(static_cast<float>(c - 1)), lo, hi);
    stored[c] = cand[c] * d;
  }
  blocks.template errors<kN>(stored, err);
  g.scale = cand[1];
  F32 least = err[1];
  for (int c = 0; c < kN; c += 2) {
    const Mask better = err[c] < least;
    g.scale = select(better, cand[c], g.scale);
    least = select(better, err[c], least);
  }
  // Least squares for d given all codes; kept where the error is really less, as it is rounded and codes
  // change.
  const F32 inv = inverse_or_zero(g.scale * d);
  typename Symmetric<16, 31, kWeighted>::Sums sums;
  blocks.template assign<1>(&inv, &sums);
  const double energy = total(blocks.mass * g.scale * g.scale * sums.qq);
  const double fit = total(blocks.mass * g.scale * sums.qx) / (energy > 0 ? energy : 1);
  if (!(fit >= -65504 && fit <= 65504) || fit == 0) return g;
  const float refitted = round_f16(static_cast<float>(fit));
  F32 stored_refitted = g.scale * splat(refitted), err_refitted;
  blocks.template errors<1>(&stored_refitted, &err_refitted);
  if (total(blocks.mass * err_refitted) < total(blocks.mass * least)) g.d = refitted;
  return g;
}

template <bool kWeighted>
inline void encode_super(const float* src, const float* importance, uint8_t* out) {
  Symmetric<16, 31, kWeighted> blocks;
  blocks.read(src, importance, kLimit);
  const Scales g = fit_super(blocks);
  uint16_t h;
  round_f16(g.d, &h);
  float inv[16];
  store(inv, inverse_or_zero(g.scale * splat(g.d)));
  store_u8(out + 192, to_int(g.scale));
  std::memcpy(out + 208, &h, 2);
  const I32 offset = splat_i(32), nibble = splat_i(15);
  for (int half = 0; half < 2; ++half)
    for (int part = 0; part < 2; ++part) {  // 16 columns of the 32 that share their high bits
      I32 q[4];
      for (int j = 0; j < 4; ++j) {
        const int block = 8 * half + 2 * j + part;
        q[j] =
            to_int(Symmetric<16, 31, kWeighted>::code(load(src + 16 * block) * splat(inv[block]))) + offset;
      }
      uint8_t* low = out + 64 * half + 16 * part;
      store_u8(low, (q[0] & nibble) | shl<4>(q[2] & nibble));
      store_u8(low + 32, (q[1] & nibble) | shl<4>(q[3] & nibble));
      store_u8(out + 128 + 32 * half + 16 * part,
               shr<4>(q[0]) | shl<2>(shr<4>(q[1])) | shl<4>(shr<4>(q[2])) | shl<6>(shr<4>(q[3])));
    }
}

void encode_q6_k(const float* x, int64_t n_rows, int64_t row, const float* importance, std::byte* out) {
  uint8_t* p = reinterpret_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n_rows * row; i += kSuper, p += kBytes) {
    if (importance)
      encode_super<true>(x + i, importance + i % row, p);
    else
      encode_super<false>(x + i, nullptr, p);
  }
}

void decode_q6_k(const std::byte* in, int64_t n, float* out) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(in);
  const I32 nibble = splat_i(15), two = splat_i(3), offset = splat_i(32);
  for (int64_t i = 0; i < n; i += kSuper, p += kBytes, out += kSuper) {
    uint16_t h[16] = {};
    std::memcpy(h, p + 208, 2);
    float d[16], scale[16];
    store(d, load_f16(h));
    store(scale, splat(d[0]) * to_float(load_i8(reinterpret_cast<const int8_t*>(p + 192))));
    for (int half = 0; half < 2; ++half)
      for (int part = 0; part < 2; ++part) {
        const I32 l0 = load_u8(p + 64 * half + 16 * part), l1 = load_u8(p + 64 * half + 32 + 16 * part);
        const I32 high = load_u8(p + 128 + 32 * half + 16 * part);
        const I32 q[4] = {(l0 & nibble) | shl<4>(high & two), (l1 & nibble) | shl<4>(shr<2>(high) & two),
                          shr<4>(l0) | shl<4>(shr<4>(high) & two), shr<4>(l1) | shl<4>(shr<6>(high))};
        for (int j = 0; j < 4; ++j) {
          const int block = 8 * half + 2 * j + part;
          store(out + 16 * block, splat(scale[block]) * to_float(q[j] - offset));
        }
      }
  }
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) {
  INGOT_DISPATCH(encode_q6_k)(x, r, n, w, out);
}
void dec(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q6_k)(in, n, out); }
}  // namespace

extern const Codec kCodecQ6_K;
const Codec kCodecQ6_K{DType::kQ6_K, 1, enc, dec, false, 65504.0f * 127 * 31};

}  // namespace ingot
#endif
