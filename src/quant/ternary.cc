// TQ1_0 and TQ2_0: super-blocks of 256 values, each -d, 0 or d, d an f16. Which values are 0 is a threshold on their magnitude whatever their importance, so the best d is looked for over thresholds.
// One super-block is sixteen lanes.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"

#define INGOT_TARGET_FILE "quant/ternary.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"

constexpr int kSuper = 256, kVectors = kSuper / 16;
// Thresholds to begin with, of the mean magnitude; one of half the largest value, for whom only outliers count, comes beside.
constexpr float kThresholds[] = {0.125f, 0.3f, 0.45f, 0.6f, 0.75f, 0.95f, 1.3f};

// Lane c is the sum of the lanes of v[c].
inline F32 sums_of(F32 (&v)[16]) {
  transpose(v);
  for (int w = 8; w >= 1; w /= 2)
    for (int i = 0; i < w; ++i) v[i] = v[i] + v[i + w];
  return v[0];
}

// The values above a threshold: their weights and their weighted magnitude. d is their mean; the more it explains the better.
struct Above {
  F32 weight, sum;
};

template <bool kWeighted>
struct Ternary {
  F32 a[kVectors];  // magnitudes
  F32 w[kWeighted ? kVectors : 1];

  INGOT_NOINLINE void read(const float* x, const float* importance) {
    for (int k = 0; k < kVectors; ++k) a[k] = min(abs(load(x + 16 * k)), splat(65504.0f));
    if constexpr (kWeighted) {
      F32 of[16];
      for (F32& v : of) v = splat(0.0f);
      for (int k = 0; k < kVectors; ++k) {
        w[k] = clamp(load(importance + 16 * k), splat(0.0f), splat(1e30f));
        of[0] = of[0] + w[k] * splat(1.0f / kSuper);
      }
      float mean[16];
      store(mean, sums_of(of));
      // As of other types: nothing without a weight counts for nothing.
      const F32 scale = inverse_or_zero(splat(mean[0])), floor = select(splat(0.0f) < scale, splat(1.0f / 1024), splat(1.0f));
      for (int k = 0; k < kVectors; ++k) w[k] = fma(w[k], scale, floor);
    }
  }

  // Of eight thresholds: lane c of those above t[c].
  INGOT_NOINLINE Above above(const float (&t)[8]) const {
    F32 both[16], least[8];
    for (int c = 0; c < 8; ++c) least[c] = splat(t[c]), both[2 * c] = both[2 * c + 1] = splat(0.0f);
    const F32 none = splat(0.0f);
    for (int k = 0; k < kVectors; ++k)
      for (int c = 0; c < 8; ++c) {
        const F32 one = select(least[c] < a[k], kWeighted ? w[kWeighted ? k : 0] : splat(1.0f), none);
        both[2 * c] = both[2 * c] + one;
        both[2 * c + 1] = fma(one, a[k], both[2 * c + 1]);
      }
    float lanes[16], weight[16] = {}, sum[16] = {};
    store(lanes, sums_of(both));
    for (int c = 0; c < 8; ++c) weight[c] = lanes[2 * c], sum[c] = lanes[2 * c + 1];
    return {load(weight), load(sum)};
  }

  // The best of eight thresholds: d, and what it explains.
  inline void better(const float (&t)[8], float* d, float* most) const {
    const Above s = above(t);
    float means[16], gains[16];
    const F32 mean = s.sum * inverse_or_zero(s.weight);
    store(means, mean);
    store(gains, mean * s.sum);
    for (int c = 0; c < 8; ++c)
      if (gains[c] > *most) *most = gains[c], *d = means[c];
  }

  float search() const {
    F32 of[16], largest = splat(0.0f);
    for (F32& v : of) v = splat(0.0f);
    for (int k = 0; k < kVectors; ++k) {
      of[0] = of[0] + a[k];
      largest = max(largest, a[k]);
    }
    float sums[16], lanes[16], top = 0;
    store(sums, sums_of(of));
    store(lanes, largest);
    for (const float v : lanes) top = max_of(top, v);
    const float mean = sums[0] / kSuper;
    float t[8], d = 0, most = 0;
    for (int c = 0; c < 7; ++c) t[c] = kThresholds[c] * mean;
    t[7] = 0.5f * top;
    better(t, &d, &most);
    // Around half of the best d, which is where the best threshold of a given d is, until that moves no more.
    constexpr float kAround[2][8] = {{0.8f, 0.87f, 0.94f, 1.0f, 1.06f, 1.13f, 1.2f, 1.28f}, {0.94f, 0.96f, 0.98f, 1.0f, 1.02f, 1.04f, 1.06f, 1.08f}};
    for (const auto& around : kAround) {
      for (int c = 0; c < 8; ++c) t[c] = 0.5f * d * around[c];
      better(t, &d, &most);
    }
    return d;
  }
};

// The digits of sixteen values, 0 to 2, for a d.
inline I32 digits(const float* x, F32 inv) { return to_int(clamp(round(load(x) * inv), splat(-1.0f), splat(1.0f))) + splat_i(1); }

// A byte of five digits (base 3, the first the most significant) is that number of 243 in 256, rounded up. Sixteen bytes at a time.
struct Tq1 {
  static constexpr int kBytes = 54, kScaleAt = 52;
  static void pack(const float* x, F32 inv, uint8_t* out) {
    const auto bytes = [&](const float* from, int step, int digits_of_it, uint8_t* to) {
      I32 n = splat_i(0);
      for (int i = 0; i < 5; ++i) {
        n = n + shl<1>(n);
        if (i < digits_of_it) n = n + digits(from + step * i, inv);
      }
      uint16_t sums[16];
      store_u16(sums, n);
      for (int i = 0; i < 16; ++i) to[i] = static_cast<uint8_t>((static_cast<uint32_t>(sums[i]) * 256 + 242) / 243);
    };
    bytes(x, 32, 5, out);
    bytes(x + 16, 32, 5, out + 16);
    bytes(x + 160, 16, 5, out + 32);
    // Four bytes of four digits each: value 4 i + k is digit i of byte k.
    uint8_t last[16];
    store_u8(last, digits(x + 240, inv));
    for (int k = 0; k < 4; ++k) {
      const uint32_t n = ((last[k] * 3u + last[k + 4]) * 3u + last[k + 8]) * 3u + last[k + 12];
      out[48 + k] = static_cast<uint8_t>((n * 3 * 256 + 242) / 243);
    }
  }
};
struct Tq2 {
  static constexpr int kBytes = 66, kScaleAt = 64;
  static void pack(const float* x, F32 inv, uint8_t* out) {
    for (int half = 0; half < 2; ++half)
      for (int part = 0; part < 2; ++part) {
        const float* from = x + 128 * half + 16 * part;
        store_u8(out + 32 * half + 16 * part, digits(from, inv) | shl<2>(digits(from + 32, inv)) | shl<4>(digits(from + 64, inv)) | shl<6>(digits(from + 96, inv)));
      }
  }
};

template <class Type, bool kWeighted>
inline void encode_super(const float* x, const float* importance, uint8_t* out) {
  Ternary<kWeighted> t;
  t.read(x, importance);
  uint16_t h;
  // Magnitudes of half of d round up to 1 or down to 0, which cost the same.
  const float d = round_f16(t.search(), &h);
  Type::pack(x, inverse_or_zero(splat(d)), out);
  std::memcpy(out + Type::kScaleAt, &h, 2);
}

template <class Type>
inline void encode(const float* x, int64_t n, int64_t row, const EncodeContext& how, std::byte* out) {
  uint8_t* p = reinterpret_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i += kSuper, p += Type::kBytes) {
    if (how.importance)
      encode_super<Type, true>(x + i, how.importance + i % row, p);
    else
      encode_super<Type, false>(x + i, nullptr, p);
  }
}

void encode_tq1_0(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode<Tq1>(x, r * n, n, how, out); }
void encode_tq2_0(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode<Tq2>(x, r * n, n, how, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc1(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_tq1_0)(x, r, n, how, out); }
void enc2(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_tq2_0)(x, r, n, how, out); }
}  // namespace

extern const Codec kCodecTQ1_0, kCodecTQ2_0;
const Codec kCodecTQ1_0{DType::kTQ1_0, 1, enc1, decode_tq1_0, false, 65504.0f};
const Codec kCodecTQ2_0{DType::kTQ2_0, 1, enc2, decode_tq2_0, false, 65504.0f};

}  // namespace ingot
#endif
