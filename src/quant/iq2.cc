// IQ2_XXS, IQ2_XS, IQ2_S: super-blocks of 256, eight magnitudes a codeword of 256, 512, 1024; value = d / 8 * scale * magnitude * sign, scale one of the odd numbers
// 1 .. 31 for each 32 (IQ2_XXS) or 16. IQ2_S stores every sign, the others seven of eight.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"
#include "quant/near_words.h"

#define INGOT_TARGET_FILE "quant/iq2.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/groups-inl.h"
#include "quant/scales-inl.h"
#include "quant/codewords-inl.h"

constexpr float kLimit = 65504.0f / 8 * 31 * 43;
constexpr float kMagnitudes[8] = {8, 25, 43, 0, 8, 25, 43, 0};

template <const uint32_t* kNear()>
struct Grid {
  static constexpr int kValues = 8, kBits = 2, kLevels = 3;
  static constexpr float kSlope = 1 / 17.5f, kOffset = -8 / 17.5f;
  static constexpr const float* levels = kMagnitudes;
  static const uint32_t* near() { return kNear(); }
};

// kLanes blocks are a super-block.
template <int kBlocksOfIt>
struct Type {
  static constexpr int kLanes = kBlocksOfIt, kLow = 1, kHigh = 31, kStep = 2, kParts = 8, kRounds = 1;
  static constexpr float kLevels[] = {34.0f, 42.0f, 50.0f, 58.0f, 66.0f};
};

template <bool kWeighted>
struct Xxs {
  static constexpr int kBytes = 66;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Coded<Grid<near_iq2_xxs>, 32, true, kWeighted> fit;
    fit.read(x, importance, kLimit);
    const auto g = fit_scales<Type<8>>(fit, effort);
    const auto chosen = choose(fit, g);
    for (int s = 0; s < blocks / 8; ++s, out += kBytes) {
      g.put(s, out);
      for (int b = 0; b < 8; ++b) {
        const int lane = 8 * s + b;
        uint32_t rest = static_cast<uint32_t>(chosen.scale[lane]) << 28;
        for (int i = 0; i < 4; ++i) {
          out[2 + 8 * b + i] = static_cast<uint8_t>(chosen.index(i, lane));
          rest |= static_cast<uint32_t>(chosen.signs[i][lane] & 127) << 7 * i;
        }
        std::memcpy(out + 6 + 8 * b, &rest, 4);
      }
    }
  }
};

template <bool kWeighted>
struct Xs {
  static constexpr int kBytes = 74;
  static void step(const float* x, const float* importance, Effort effort, int, uint8_t* out) {
    Coded<Grid<near_iq2_xs>, 16, true, kWeighted> fit;
    fit.read(x, importance, kLimit);
    const auto g = fit_scales<Type<16>>(fit, effort);
    const auto chosen = choose(fit, g);
    g.put(0, out);
    for (int k = 0; k < 32; ++k) {
      const auto word = static_cast<uint16_t>(chosen.index(k % 2, k / 2) | (chosen.signs[k % 2][k / 2] & 127) << 9);
      std::memcpy(out + 2 + 2 * k, &word, 2);
    }
    for (int b = 0; b < 8; ++b) out[66 + b] = static_cast<uint8_t>(chosen.scale[2 * b] | chosen.scale[2 * b + 1] << 4);
  }
};

template <bool kWeighted>
struct S {
  static constexpr int kBytes = 82;
  static void step(const float* x, const float* importance, Effort effort, int, uint8_t* out) {
    Coded<Grid<near_iq2_s>, 16, false, kWeighted> fit;
    fit.read(x, importance, kLimit);
    const auto g = fit_scales<Type<16>>(fit, effort);
    const auto chosen = choose(fit, g);
    g.put(0, out);
    uint8_t *low = out + 2, *signs = out + 34, *high = out + 66, *scales = out + 74;
    for (int b = 0; b < 8; ++b) {
      high[b] = 0;
      for (int i = 0; i < 4; ++i) {
        const int k = 4 * b + i;
        low[k] = static_cast<uint8_t>(chosen.index(k % 2, k / 2));
        high[b] = static_cast<uint8_t>(high[b] | chosen.index(k % 2, k / 2) >> 8 << 2 * i);
        signs[k] = chosen.signs[k % 2][k / 2];
      }
      scales[b] = static_cast<uint8_t>(chosen.scale[2 * b] | chosen.scale[2 * b + 1] << 4);
    }
  }
};

void encode_iq2_xxs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Xxs, 32, 256>(x, r, n, how, out); }
void encode_iq2_xs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<Xs, 16, 256>(x, r, n, how, out); }
void encode_iq2_s(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<S, 16, 256>(x, r, n, how, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void xxs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq2_xxs)(x, r, n, how, out); }
void xs(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq2_xs)(x, r, n, how, out); }
void s(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq2_s)(x, r, n, how, out); }
}  // namespace

extern const Codec kCodecIQ2_XXS, kCodecIQ2_XS, kCodecIQ2_S;
const Codec kCodecIQ2_XXS{DType::kIQ2_XXS, 1, xxs, decode_iq2_xxs, false, 65504.0f / 8 * 31 * 43};
const Codec kCodecIQ2_XS{DType::kIQ2_XS, 1, xs, decode_iq2_xs, false, 65504.0f / 8 * 31 * 43};
const Codec kCodecIQ2_S{DType::kIQ2_S, 1, s, decode_iq2_s, false, 65504.0f / 8 * 31 * 43};

}  // namespace ingot
#endif
