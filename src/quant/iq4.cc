// IQ4_NL (32 values, d * q) and IQ4_XS (256 values, d * scale * q with a signed scale of six bits for each 32): q one of sixteen numbers that lie closer around 0.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"
#include "quant/grids.h"

#define INGOT_TARGET_FILE "quant/iq4.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/groups-inl.h"
#include "quant/symmetric-inl.h"
#include "quant/scales-inl.h"

constexpr float kBetween[16] = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101, 1e30f};

struct Nonlinear {
  static constexpr float kFine = 0.011f;
  // A line through the numbers finds the one or the one below it: what is to the right of where the two meet is the next.
  static I32 index(F32 v) {
    const I32 low = to_int(clamp(round(fma(v, splat(0.069976f), splat(7.4058608f))), splat(0.0f), splat(15.0f)));
    return low + select(lookup(kBetween, low) < v, splat_i(1), splat_i(0));
  }
  static F32 nearest(F32 v) { return lookup(kIq4, index(v)); }
};

// Chosen greedily as in symmetric types, over blocks of the tiny Llama's weights, gaussian and student-t values.
constexpr float kLevels4[] = {-130.0f, 115.0f, -122.5f, -137.5f, -107.5f, 125.0f, 110.0f, -147.5f};

template <bool kWeighted>
struct Nl {
  static constexpr int kBytes = 18;
  using Fit = Symmetric<kBlock, Nonlinear, kWeighted>;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Fit e;
    e.read(x, importance, 65504.0f * 113);
    const Halves d = halves(e.search(kLevels4, effort));
    for (int b = 0; b < blocks; ++b, out += kBytes) {
      std::memcpy(out, d.h + b, 2);
      store_u8(out + 2, Nonlinear::index(load(x + 32 * b) * splat(d.inv[b])) | shl<4>(Nonlinear::index(load(x + 32 * b + 16) * splat(d.inv[b]))));
    }
  }
};

struct Xs {
  static constexpr int kLanes = 8, kLow = -32, kHigh = 31, kStep = 1, kParts = 1, kRounds = 2;
  static constexpr const auto& kLevels = kLevels4;
};

template <bool kWeighted>
struct Super {
  static constexpr int kBytes = 136;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Symmetric<kBlock, Nonlinear, kWeighted> fit;
    fit.read(x, importance, 65504.0f * 31 * 113);
    const Scales<Xs> g = fit_scales<Xs>(fit, effort);
    float inv[16];
    uint8_t scale[16];
    store(inv, inverse_or_zero(g.scale * g.lanes()));
    store_u8(scale, to_int(g.scale) + splat_i(32));
    for (int s = 0; s < blocks / 8; ++s, out += kBytes) {
      uint16_t high = 0;
      g.put(s, out);
      for (int b = 0; b < 8; ++b) {
        const int of = 8 * s + b;
        high = static_cast<uint16_t>(high | scale[of] >> 4 << 2 * b);
        if (b % 2) out[4 + b / 2] = static_cast<uint8_t>((scale[of - 1] & 15) | (scale[of] & 15) << 4);
        const float* from = x + 32 * of;
        store_u8(out + 8 + 16 * b, Nonlinear::index(load(from) * splat(inv[of])) | shl<4>(Nonlinear::index(load(from + 16) * splat(inv[of]))));
      }
      std::memcpy(out + 2, &high, 2);
    }
  }
};

void encode_iq4_nl(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Nl>(x, r, n, how, out); }
void encode_iq4_xs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Super, 32, 256>(x, r, n, how, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void nl(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq4_nl)(x, r, n, how, out); }
void xs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq4_xs)(x, r, n, how, out); }
}  // namespace

extern const Codec kCodecIQ4_NL, kCodecIQ4_XS;
const Codec kCodecIQ4_NL{DType::kIQ4_NL, 1, nl, decode_iq4_nl, false, 65504.0f * 113};
const Codec kCodecIQ4_XS{DType::kIQ4_XS, 1, xs, decode_iq4_xs, false, 65504.0f * 31 * 113};

}  // namespace ingot
#endif
