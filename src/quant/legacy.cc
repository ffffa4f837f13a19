// The 32-value blocks: Q8_0 (value = d * q, q of 8 bits), Q4_0 (d * (q - 8), q of 4 bits) and Q5_0 (d * (q - 16), q of 5 bits); Q4_1 and Q5_1 (d * q + m). d and m
// are f16. Sixteen blocks are encoded at a time.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"

#define INGOT_TARGET_FILE "quant/legacy.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/groups-inl.h"
#include "quant/symmetric-inl.h"
#include "quant/affine-inl.h"

constexpr int kQ8Bytes = 34, kQ4Bytes = 18;
constexpr float kQ8Limit = 65504.0f * 127, kQ4Limit = 65504.0f * 7, kQ5Limit = 65504.0f * 15, kMinLimit = 65504.0f;
// Chosen greedily as in k_affine.cc: codes of the block's largest value. Without importance the first four,
// as Q4_0 is there to be fast.
constexpr float kLevels[] = {-8.125f, -8.625f, -7.25f, -7.75f};
constexpr float kMoreLevels[] = {-8.125f, -8.625f, -7.25f, -7.75f, -8.375f, -6.875f, -8.875f, -8.0f};

constexpr float kLevels5[] = {-16.125f, -15.125f, -16.625f, -14.125f, -15.75f, -17.25f, -13.125f, -14.75f, -16.375f, -13.875f, -12.25f, -15.375f};

// Codes of the block's largest value. 127 alone is what the reference takes, and fast effort.
constexpr float kLevels8[] = {127.0f, 126.5f, 127.5f, -127.75f};

template <bool kWeighted>
struct Q8 {
  static constexpr int kBytes = kQ8Bytes;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Symmetric<kBlock, Uniform<127>, kWeighted> e;
    e.read(x, importance, kQ8Limit);
    const Halves d = halves(e.search(kLevels8, effort));
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      std::memcpy(out, d.h + b, 2);
      for (int half = 0; half < 32; half += 16) store_u8(out + 2 + half, to_int(Uniform<127>::nearest(load(x + 32 * b + half) * splat(d.inv[b]))));
    }
  }
};

struct FastQ8 {
  static constexpr int kBytes = kQ8Bytes;
  static void step(const float* x, const float*, Effort, int blocks, uint8_t* out) {
    F32 m[16];
    for (int b = 0; b < 16; ++b) m[b] = max(abs(load(x + 32 * b)), abs(load(x + 32 * b + 16)));
    transpose(m);
    for (int w = 8; w >= 1; w /= 2)
      for (int i = 0; i < w; ++i) m[i] = max(m[i], m[i + w]);
    uint16_t h[16];
    float inv[16];
    store_f16(h, min(m[0], splat(kQ8Limit)) * splat(1.0f / 127));
    store(inv, inverse_or_zero(load_f16(h)));
    const F32 lo = splat(-127.0f), hi = splat(127.0f);
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      std::memcpy(out, h + b, 2);
      const F32 s = splat(inv[b]);
      store_u8(out + 2, to_int(clamp(load(x + 32 * b) * s, lo, hi)));
      store_u8(out + 18, to_int(clamp(load(x + 32 * b + 16) * s, lo, hi)));
    }
  }
};

template <bool kWeighted>
struct Q4 {
  static constexpr int kBytes = kQ4Bytes;
  using Fit = Symmetric<kBlock, Uniform<7>, kWeighted>;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Fit e;
    e.read(x, importance, kQ4Limit);
    const Halves d = halves(kWeighted || effort == Effort::kBest ? e.search(kMoreLevels, effort) : e.search(kLevels, effort));
    const I32 eight = splat_i(8);
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      std::memcpy(out, d.h + b, 2);
      const F32 s = splat(d.inv[b]);
      const I32 q0 = to_int(Fit::code(load(x + 32 * b) * s)) + eight;
      const I32 q1 = to_int(Fit::code(load(x + 32 * b + 16) * s)) + eight;
      store_u8(out + 2, q0 | shl<4>(q1));
    }
  }
};

// Bit i of the word is bit 4 of code i: sixteen codes each.
inline uint32_t fifth_bits(I32 first, I32 second) {
  const I32 one = splat_i(1);
  return to_bits(equal(shr<4>(first) & one, one)) | to_bits(equal(shr<4>(second) & one, one)) << 16;
}

template <bool kWeighted>
struct Q5 {
  static constexpr int kBytes = 22;
  using Fit = Symmetric<kBlock, Uniform<15>, kWeighted>;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Fit e;
    e.read(x, importance, kQ5Limit);
    const Halves d = halves(e.search(kLevels5, effort));
    const I32 offset = splat_i(16), nibble = splat_i(15);
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      const F32 s = splat(d.inv[b]);
      const I32 q0 = to_int(Fit::code(load(x + 32 * b) * s)) + offset;
      const I32 q1 = to_int(Fit::code(load(x + 32 * b + 16) * s)) + offset;
      const uint32_t high = fifth_bits(q0, q1);
      std::memcpy(out, d.h + b, 2);
      std::memcpy(out + 2, &high, 4);
      store_u8(out + 6, (q0 & nibble) | shl<4>(q1 & nibble));
    }
  }
};

// kMax 15: Q4_1; 31: Q5_1.
template <int kMax, bool kWeighted>
struct WithMin {
  static constexpr int kBytes = kMax == 15 ? 20 : 24;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    using Fit = AffineBlocks<kBlock, kMax, kWeighted, true>;
    Fit e;
    e.read(x, importance, kMinLimit);
    const Affine best = e.search(effort);
    uint16_t d16[16], m16[16];
    float d[16], inv[16], m[16];
    store_f16(d16, min(best.scale, splat(65504.0f)));
    const F32 scale = load_f16(d16), per = inverse_or_zero(scale);
    // The min that suits the codes of the rounded scale.
    Sums sums;
    const F32 offset = best.min * per;
    e.template assign<1>(&per, &offset, &sums);
    store_f16(m16, clamp(e.mean - scale * sums.q * e.inv_total, splat(-65504.0f), splat(65504.0f)));
    store(d, scale);
    store(inv, per);
    store(m, load_f16(m16));
    const I32 nibble = splat_i(15);
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      const F32 s = splat(inv[b]), low = splat(m[b]);
      const I32 q0 = to_int(Fit::code((load(x + 32 * b) - low) * s)), q1 = to_int(Fit::code((load(x + 32 * b + 16) - low) * s));
      std::memcpy(out, d16 + b, 2);
      std::memcpy(out + 2, m16 + b, 2);
      if constexpr (kMax == 31) {
        const uint32_t high = fifth_bits(q0, q1);
        std::memcpy(out + 4, &high, 4);
      }
      store_u8(out + kBytes - 16, (q0 & nibble) | shl<4>(q1 & nibble));
    }
  }
};

template <bool kWeighted>
using Q41 = WithMin<15, kWeighted>;
template <bool kWeighted>
using Q51 = WithMin<31, kWeighted>;

void encode_q5_0(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Q5>(x, r, n, how, out); }
void encode_q4_1(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Q41>(x, r, n, how, out); }
void encode_q5_1(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Q51>(x, r, n, how, out); }

void encode_q8_0(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  if (how.effort == Effort::kFast)
    for_groups<FastQ8>(x, r * n, n, {}, reinterpret_cast<uint8_t*>(out));
  else
    encode_either<Q8>(x, r, n, how, out);
}
void encode_q4_0(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Q4>(x, r, n, how, out); }

// The f16 scales of up to sixteen blocks.
inline void scales(const uint8_t* p, int bytes, int blocks, float* d) {
  uint16_t h[16] = {};
  for (int b = 0; b < blocks; ++b) std::memcpy(h + b, p + b * bytes, 2);
  store(d, load_f16(h));
}

void decode_q8_0(const std::byte* in, int64_t n, float* out) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(in);
  for (int64_t left = n / kBlock; left > 0; left -= 16) {
    const int blocks = static_cast<int>(left < 16 ? left : 16);
    float d[16];
    scales(p, kQ8Bytes, blocks, d);
    for (int b = 0; b < blocks; ++b, p += kQ8Bytes, out += kBlock) {
      const int8_t* q = reinterpret_cast<const int8_t*>(p + 2);
      store(out, splat(d[b]) * to_float(load_i8(q)));
      store(out + 16, splat(d[b]) * to_float(load_i8(q + 16)));
    }
  }
}

void decode_q4_0(const std::byte* in, int64_t n, float* out) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(in);
  const I32 nibble = splat_i(15), eight = splat_i(8);
  for (int64_t left = n / kBlock; left > 0; left -= 16) {
    const int blocks = static_cast<int>(left < 16 ? left : 16);
    float d[16];
    scales(p, kQ4Bytes, blocks, d);
    for (int b = 0; b < blocks; ++b, p += kQ4Bytes, out += kBlock) {
      const I32 q = load_u8(p + 2);
      store(out, splat(d[b]) * to_float((q & nibble) - eight));
      store(out + 16, splat(d[b]) * to_float(shr<4>(q) - eight));
    }
  }
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc8(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q8_0)(x, r, n, how, out);
}
void enc4(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q4_0)(x, r, n, how, out);
}
void enc41(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_q4_1)(x, r, n, how, out); }
void enc50(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_q5_0)(x, r, n, how, out); }
void enc51(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_q5_1)(x, r, n, how, out); }
void dec8(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q8_0)(in, n, out); }
void dec4(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q4_0)(in, n, out); }
}  // namespace

extern const Codec kCodecQ8_0, kCodecQ4_0, kCodecQ4_1, kCodecQ5_0, kCodecQ5_1;
const Codec kCodecQ8_0{DType::kQ8_0, 2, enc8, dec8, false, 65504.0f * 127};
const Codec kCodecQ4_0{DType::kQ4_0, 1, enc4, dec4, false, 65504.0f * 7};
const Codec kCodecQ4_1{DType::kQ4_1, 1, enc41, decode_q4_1, false, 65504.0f};
const Codec kCodecQ5_0{DType::kQ5_0, 1, enc50, decode_q5_0, false, 65504.0f * 15};
const Codec kCodecQ5_1{DType::kQ5_1, 1, enc51, decode_q5_1, false, 65504.0f};

}  // namespace ingot
#endif
