// MXFP4: blocks of 32 E2M1 numbers (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) times a power of two (OCP Microscaling Formats v1.0). All there is to choose is
// the power: that of the reference, which gives the largest value its place, and its neighbours. Sixteen blocks are encoded at a time.
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"

#define INGOT_TARGET_FILE "quant/fp4.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"

constexpr int kBlock = 32, kGroup = 512, kBytes = 17;
// The largest code of the power whose every number is finite as f32.
constexpr int kMaxPower = 252;

// The number nearest to |v|, doubled: 0, 1, 2, 3, 4, 6, 8, 12.
inline F32 nearest(F32 v) {
  const F32 a = abs(v), two = splat(2.0f), four = splat(4.0f);
  const F32 fine = round(a), half = round(a * splat(0.5f)) * two, quarter = min(round(a * splat(0.25f)), splat(3.0f)) * four;
  return select(a < four, fine, select(a < splat(8.0f), half, quarter));
}

template <bool kWeighted>
inline void encode_sixteen(const float* x, const float* importance, int blocks, uint8_t* out) {
  F32 t[kBlock], w[kWeighted ? kBlock : 1];
  to_lanes<kBlock>(x, -FLT_MAX, FLT_MAX, t);
  if constexpr (kWeighted) importance_to_lanes<kBlock>(importance, w);
  F32 most = splat(0.0f);
  for (int k = 0; k < kBlock; ++k) most = max(most, abs(t[k]));
  // The largest lies between 4 and 8 halves of a unit, or by one power more or less.
  const I32 exponent = shr<23>(bits(most));
  F32 power = splat(0.0f), least = splat(0.0f);
  for (int c = 0; c < 3; ++c) {
    const F32 p = clamp(to_float(exponent - splat_i(c == 0 ? 2 : c == 1 ? 3 : 1)), splat(2.0f), splat(static_cast<float>(kMaxPower)));
    const F32 unit = from_bits(shl<23>(to_int(p) - splat_i(1))), inv = inverse_or_zero(unit);
    F32 err = splat(0.0f);
    for (int k = 0; k < kBlock; ++k) {
      // In units: squares of the values themselves would underflow.
      const F32 v = t[k] * inv, e = abs(v) - nearest(v);
      F32 we = e;
      if constexpr (kWeighted) we = w[k] * e;
      err = fma(we, e, err);
    }
    // A unit of the neighbour below is half of this one's, its square a quarter.
    err = err * splat(c == 0 ? 1.0f : c == 1 ? 0.25f : 4.0f);
    const Mask better = c == 0 ? err < splat(INFINITY) : err < least;
    power = select(better, p, c == 0 ? p : power);
    least = c == 0 ? err : select(better, err, least);
  }
  const F32 inv = inverse_or_zero(from_bits(shl<23>(to_int(power) - splat_i(1))));
  I32 code[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    const F32 v = t[k] * inv, n = nearest(v);
    // 6, 8 and 12 are codes 5, 6 and 7.
    const F32 c = select(n > splat(4.0f), select(n > splat(6.0f), select(n > splat(8.0f), splat(7.0f), splat(6.0f)), splat(5.0f)), n);
    code[k] = to_int(select(v < splat(0.0f), c + splat(8.0f), c));
  }
  uint8_t columns[16][16], powers[16];
  for (int k = 0; k < 16; ++k) store_u8(columns[k], code[k] | shl<4>(code[k + 16]));
  store_u8(powers, to_int(power));
  for (int b = 0; b < blocks; ++b, out += kBytes) {
    out[0] = powers[b];
    for (int k = 0; k < 16; ++k) out[1 + k] = columns[k][b];
  }
}

template <bool kWeighted>
INGOT_NOINLINE void encode_all(const float* x, int64_t n, int64_t row, const float* importance, uint8_t* out) {
  float xs[kGroup], ws[kGroup];
  for (int64_t i = 0; i < n; i += kGroup, out += 16 * kBytes) {
    const int blocks = static_cast<int>((n - i < kGroup ? n - i : kGroup) / kBlock);
    const float* src = x + i;
    if (blocks < 16) {
      std::memset(xs, 0, sizeof xs);
      std::memcpy(xs, src, static_cast<size_t>(blocks) * kBlock * 4);
      src = xs;
    }
    if constexpr (kWeighted)
      for (int b = 0; b < 16; ++b) std::memcpy(ws + b * kBlock, importance + (i + b * kBlock) % row, kBlock * 4);
    encode_sixteen<kWeighted>(src, ws, blocks, out);
  }
}

void encode_mxfp4(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) {
  if (w)
    encode_all<true>(x, r * n, n, w, reinterpret_cast<uint8_t*>(out));
  else
    encode_all<false>(x, r * n, n, nullptr, reinterpret_cast<uint8_t*>(out));
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc(const float* x, int64_t r, int64_t n, const float* w, std::byte* out) { INGOT_DISPATCH(encode_mxfp4)(x, r, n, w, out); }
}  // namespace

extern const Codec kCodecMXFP4;
const Codec kCodecMXFP4{DType::kMXFP4, 1, enc, decode_mxfp4, false, FLT_MAX};

}  // namespace ingot
#endif
