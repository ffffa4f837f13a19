// IQ3_XXS, IQ3_S: super-blocks of 256, four magnitudes a codeword of 256, 512; value = d / 4 * scale * magnitude * sign (IQ3_S: d * scale * ..), scale one of the odd
// numbers 1 .. 31 for each 32. IQ3_S stores every sign, IQ3_XXS seven of eight.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"
#include "quant/near_words.h"

#define INGOT_TARGET_FILE "quant/iq3.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/groups-inl.h"
#include "quant/scales-inl.h"
#include "quant/codewords-inl.h"

constexpr float kMagnitudesXxs[8] = {4, 12, 20, 28, 36, 44, 52, 62}, kMagnitudesS[8] = {1, 3, 5, 7, 9, 11, 13, 15};

struct GridXxs {
  static constexpr int kValues = 4, kBits = 3, kLevels = 8;
  static constexpr float kSlope = 1 / 8.0f, kOffset = -0.5f;
  static constexpr const float* levels = kMagnitudesXxs;
  static const uint32_t* near() { return near_iq3_xxs(); }
};
struct GridS {
  static constexpr int kValues = 4, kBits = 3, kLevels = 8;
  static constexpr float kSlope = 0.5f, kOffset = -0.5f;
  static constexpr const float* levels = kMagnitudesS;
  static const uint32_t* near() { return near_iq3_s(); }
};

struct TypeXxs {
  static constexpr int kLanes = 8, kLow = 1, kHigh = 31, kStep = 2, kParts = 4, kRounds = 1;
  static constexpr float kLevels[] = {50.0f, 58.0f, 66.0f, 74.0f};
};
struct TypeS {
  static constexpr int kLanes = 8, kLow = 1, kHigh = 31, kStep = 2, kParts = 1, kRounds = 1;
  static constexpr float kLevels[] = {12.0f, 14.0f, 16.0f, 18.0f};
};

template <bool kWeighted>
struct Xxs {
  static constexpr int kBytes = 98;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Coded<GridXxs, 32, true, kWeighted> fit;
    fit.read(x, importance, 65504.0f / 4 * 31 * 62);
    const auto g = fit_scales<TypeXxs>(fit, effort);
    const auto chosen = choose(fit, g);
    for (int s = 0; s < blocks / 8; ++s, out += kBytes) {
      g.put(s, out);
      for (int b = 0; b < 8; ++b) {
        const int lane = 8 * s + b;
        uint32_t rest = static_cast<uint32_t>(chosen.scale[lane]) << 28;
        for (int i = 0; i < 8; ++i) out[2 + 8 * b + i] = static_cast<uint8_t>(chosen.index(i, lane));
        for (int i = 0; i < 4; ++i) rest |= static_cast<uint32_t>(chosen.signs[i][lane] & 127) << 7 * i;
        std::memcpy(out + 66 + 4 * b, &rest, 4);
      }
    }
  }
};

template <bool kWeighted>
struct S {
  static constexpr int kBytes = 110;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Coded<GridS, 32, false, kWeighted> fit;
    fit.read(x, importance, 65504.0f * 31 * 15);
    const auto g = fit_scales<TypeS>(fit, effort);
    const auto chosen = choose(fit, g);
    for (int s = 0; s < blocks / 8; ++s, out += kBytes) {
      g.put(s, out);
      for (int b = 0; b < 8; ++b) {
        const int lane = 8 * s + b;
        uint8_t high = 0;
        for (int i = 0; i < 8; ++i) {
          out[2 + 8 * b + i] = static_cast<uint8_t>(chosen.index(i, lane));
          high = static_cast<uint8_t>(high | chosen.index(i, lane) >> 8 << i);
        }
        out[66 + b] = high;
        for (int i = 0; i < 4; ++i) out[74 + 4 * b + i] = chosen.signs[i][lane];
        if (b % 2) out[106 + b / 2] = static_cast<uint8_t>(chosen.scale[lane - 1] | chosen.scale[lane] << 4);
      }
    }
  }
};

void encode_iq3_xxs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Xxs, 32, 256>(x, r, n, how, out); }
void encode_iq3_s(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<S, 32, 256>(x, r, n, how, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void xxs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq3_xxs)(x, r, n, how, out); }
void s(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq3_s)(x, r, n, how, out); }
}  // namespace

extern const Codec kCodecIQ3_XXS, kCodecIQ3_S;
const Codec kCodecIQ3_XXS{DType::kIQ3_XXS, 1, xxs, decode_iq3_xxs, false, 65504.0f / 4 * 31 * 62};
const Codec kCodecIQ3_S{DType::kIQ3_S, 1, s, decode_iq3_s, false, 65504.0f * 31 * 15};

}  // namespace ingot
#endif
