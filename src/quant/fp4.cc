// MXFP4: blocks of 32 E2M1 numbers (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) times a power of two (OCP Microscaling Formats v1.0). All there is to choose is
// the power: that of the reference, which gives the largest value its place, and its neighbours. NVFP4: blocks of 16 such numbers times an unsigned E4M3 number; four
// of them are a block of the file.
#include <cfloat>
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"

#define INGOT_TARGET_FILE "quant/fp4.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/groups-inl.h"

// The largest code of the power whose every number is finite as f32.
constexpr float kMaxPower = 252;

// The number nearest to |v|, doubled: 0, 1, 2, 3, 4, 6, 8, 12.
inline F32 nearest(F32 v) {
  const F32 a = abs(v), two = splat(2.0f), four = splat(4.0f);
  const F32 fine = round(a), half = round(a * splat(0.5f)) * two, quarter = min(round(a * splat(0.25f)), splat(3.0f)) * four;
  return select(a < four, fine, select(a < splat(8.0f), half, quarter));
}

// Sixteen values in units as codes: 6, 8 and 12 are 5, 6 and 7, negative ones 8 more.
inline I32 codes(F32 v) {
  const F32 n = nearest(v);
  const F32 c = select(n > splat(4.0f), select(n > splat(6.0f), select(n > splat(8.0f), splat(7.0f), splat(6.0f)), splat(5.0f)), n);
  return to_int(select(v < splat(0.0f), c + splat(8.0f), c));
}

// Half of the power's unit, as the numbers are doubled.
inline F32 unit(F32 power) { return from_bits(shl<23>(to_int(power) - splat_i(1))); }

// The error of a block in a unit, in squares of that unit: squares of the values themselves would underflow.
template <int kValues, bool kWeighted>
inline F32 error_in(const F32* t, const F32* w, F32 inv) {
  F32 err = splat(0.0f);
  for (int k = 0; k < kValues; ++k) {
    const F32 v = t[k] * inv, e = abs(v) - nearest(v);
    F32 we = e;
    if constexpr (kWeighted) we = w[k] * e;
    err = fma(we, e, err);
  }
  return err;
}

template <bool kWeighted>
struct Fp4 {
  static constexpr int kBytes = 17;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    F32 t[kBlock], w[kWeighted ? kBlock : 1];
    to_lanes<kBlock>(x, -FLT_MAX, FLT_MAX, t);
    if constexpr (kWeighted) importance_to_lanes<kBlock>(importance, w);
    F32 most = splat(0.0f);
    for (int k = 0; k < kBlock; ++k) most = max(most, abs(t[k]));
    const F32 first = to_float(shr<23>(bits(most)) - splat_i(2));  // the largest is 4 to 8 halves of its unit
    // Its neighbours' units are half and twice of that, so their squares a quarter and four times.
    constexpr float kBeside[] = {0, -1, 1}, kSquare[] = {1, 0.25f, 4};
    F32 power = splat(0.0f), least = splat(FLT_MAX);
    for (int c = 0; c < (effort == Effort::kFast ? 1 : 3); ++c) {
      const F32 p = clamp(first + splat(kBeside[c]), splat(2.0f), splat(kMaxPower));
      const F32 err = error_in<kBlock, kWeighted>(t, w, inverse_or_zero(unit(p))) * splat(kSquare[c]);
      const Mask better = err < least;
      power = select(better, p, power);
      least = select(better, err, least);
    }
    float inv[16];
    uint8_t powers[16];
    store(inv, inverse_or_zero(unit(power)));
    store_u8(powers, to_int(power));
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      out[0] = powers[b];
      store_u8(out + 1, codes(load(x + 32 * b) * splat(inv[b])) | shl<4>(codes(load(x + 32 * b + 16) * splat(inv[b]))));
    }
  }
};

// Half of an E4M3 number by its code, 0 to 126, as the numbers are doubled.
inline F32 half_of(F32 code) {
  const I32 c = to_int(code);
  return select(code < splat(8.0f), code * splat(0x1p-10f), from_bits(shl<20>(c) + splat_i(119 << 23)));
}
// The code of the number nearest to v, which is not negative.
inline F32 code_of(F32 v) {
  const F32 fine = round(v * splat(0x1p9f)), coarse = to_float(shr<20>(bits(min(v, splat(448.0f))) + splat_i(1 << 19)) - splat_i(120 << 3));
  return min(select(fine < splat(8.0f), fine, coarse), splat(126.0f));
}

template <bool kWeighted>
struct Nv {
  static constexpr int kValues = 16, kBytes = 36;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    F32 t[kValues], w[kWeighted ? kValues : 1];
    to_lanes<kValues>(x, -448.0f * 6, 448.0f * 6, t);
    if constexpr (kWeighted) importance_to_lanes<kValues>(importance, w);
    F32 most = splat(0.0f);
    for (int k = 0; k < kValues; ++k) most = max(most, abs(t[k]));
    // From the largest value's being a little beyond 6 to its being 4, which is half as much again.
    const F32 first = code_of(most * splat(1.0f / 6));
    F32 code = splat(0.0f), least = splat(FLT_MAX);
    const int lowest = effort == Effort::kFast ? 0 : effort == Effort::kBest ? -5 : -2, highest = effort == Effort::kFast ? 1 : effort == Effort::kBest ? 12 : 6;
    for (int c = lowest; c <= highest; ++c) {
      const F32 of = clamp(first + splat(static_cast<float>(c)), splat(1.0f), splat(126.0f)), half = half_of(of);
      const F32 err = error_in<kValues, kWeighted>(t, w, inverse_or_zero(half)) * half * half;
      const Mask better = err < least;
      code = select(better, of, code);
      least = select(better, err, least);
    }
    code = select(most > splat(0.0f), code, splat(0.0f));
    float inv[16];
    uint8_t of[16];
    store(inv, inverse_or_zero(half_of(code)));
    store_u8(of, to_int(code));
    for (int b = 0; b < blocks; b += 4, out += kBytes) {
      std::memcpy(out, of + b, 4);
      for (int i = 0; i < 4; ++i) {
        uint8_t c[16];
        store_u8(c, codes(load(x + 16 * (b + i)) * splat(inv[b + i])));
        for (int k = 0; k < 8; ++k) out[4 + 8 * i + k] = static_cast<uint8_t>(c[k] | c[k + 8] << 4);
      }
    }
  }
};

void encode_nvfp4(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Nv, 16, 64>(x, r, n, how, out); }
void encode_mxfp4(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Fp4>(x, r, n, how, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_mxfp4)(x, r, n, how, out); }
void nv(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_nvfp4)(x, r, n, how, out); }
}  // namespace

extern const Codec kCodecMXFP4, kCodecNVFP4;
const Codec kCodecNVFP4{DType::kNVFP4, 1, nv, decode_nvfp4, false, 448.0f * 6};
const Codec kCodecMXFP4{DType::kMXFP4, 1, enc, decode_mxfp4, false, FLT_MAX};

}  // namespace ingot
#endif
