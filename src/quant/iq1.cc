// IQ1_S, IQ1_M: super-blocks of 256, eight values of -1, 0 and 1 a codeword of 2048, all moved by an eighth up or down for each 32 (IQ1_S) or 8 (IQ1_M); value =
// d * scale * (word +- 1/8), scale one of the odd numbers 1 .. 15 for each 32 or 16.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"
#include "quant/near_words.h"

#define INGOT_TARGET_FILE "quant/iq1.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/groups-inl.h"
#include "quant/scales-inl.h"
#include "quant/codewords-inl.h"

constexpr float kLimit = 65504.0f * 15;
constexpr float kTernary[8] = {-1, 0, 1, 0, -1, 0, 1, 0};
constexpr float kShift = 0.125f;

struct Grid {
  static constexpr int kValues = 8, kBits = 2, kLevels = 3;
  static constexpr float kSlope = 1, kOffset = 1;
  static constexpr const float* levels = kTernary;
};

// The words of sixteen blocks; kEach: each word has a shift of its own, else a block has one.
template <int kBlock, bool kEach, bool kWeighted>
struct Shifted {
  static constexpr int kWords = kBlock / 8;
  F32 x[kBlock], w[kWeighted ? kBlock : 1];
  F32 most, energy, mass;
  const uint32_t* near;
  struct Sums {
    F32 qq, qx;
  };
  // Of one scale: the words, which way each is moved (-1, 1), the error in units.
  struct Chosen {
    I32 entry[kWords];
    F32 way[kWords];
    F32 error;
  };

  INGOT_NOINLINE void read(const float* values, const float* importance) {
    near = near_iq1();
    to_lanes<kBlock>(values, -kLimit, kLimit, x);
    mass = splat(1.0f);
    if constexpr (kWeighted) mass = importance_to_lanes<kBlock>(importance, w);
    most = energy = splat(0.0f);
    for (int k = 0; k < kBlock; ++k) {
      F32 weighted = x[k];
      if constexpr (kWeighted) weighted = w[k] * x[k];
      energy = fma(weighted, x[k], energy);
      most = max(most, abs(x[k]));
    }
  }

  template <int kMost>
  Word word(int i, F32 inv, float shift) const {
    F32 b[8];
    for (int k = 0; k < 8; ++k) b[k] = fma(x[8 * i + k], inv, splat(-shift));
    return nearest_word<Grid, kWeighted, kMost>(b, kWeighted ? w + 8 * i : nullptr, near);
  }

  template <int kMost = kNearWords>
  INGOT_NOINLINE Chosen choose(F32 inv) const {
    Chosen up, down;
    F32 errors_up = splat(0.0f), errors_down = splat(0.0f);
    for (int i = 0; i < kWords; ++i) {
      const Word u = word<kMost>(i, inv, kShift), d = word<kMost>(i, inv, -kShift);
      up.entry[i] = u.entry, up.way[i] = splat(1.0f);
      if constexpr (kEach) {
        const Mask better = d.error < u.error;
        up.entry[i] = select(better, d.entry, u.entry);
        up.way[i] = select(better, splat(-1.0f), splat(1.0f));
        errors_up = errors_up + select(better, d.error, u.error);
      } else {
        down.entry[i] = d.entry;
        errors_up = errors_up + u.error;
        errors_down = errors_down + d.error;
      }
    }
    if constexpr (!kEach) {
      const Mask better = errors_down < errors_up;
      for (int i = 0; i < kWords; ++i) {
        up.entry[i] = select(better, down.entry[i], up.entry[i]);
        up.way[i] = select(better, splat(-1.0f), splat(1.0f));
      }
      errors_up = select(better, errors_down, errors_up);
    }
    up.error = errors_up;
    return up;
  }

  template <int kN>
  void assign(const F32* inv, Sums* out) const {
    for (int c = 0; c < kN; ++c) {
      const Chosen chosen = choose<2>(inv[c]);
      F32 qq = splat(0.0f), qx = splat(0.0f);
      for (int i = 0; i < kWords; ++i) {
        I32 rest = chosen.entry[i];
        for (int k = 0; k < 8; ++k) {
          const F32 q = fma(chosen.way[i], splat(kShift), lookup8(kTernary, rest));
          F32 wq = q;
          if constexpr (kWeighted) wq = w[8 * i + k] * q;
          qq = fma(wq, q, qq);
          qx = fma(wq, x[8 * i + k], qx);
          rest = shr<2>(rest);
        }
      }
      out[c] = {qq, qx};
    }
  }

  template <int kCandidates>
  F32 search(const float (&candidates)[kCandidates], Effort effort) const { return best_scale(*this, most, candidates, effort); }

  template <int kN>
  void errors(const F32* stored, F32* err) const {
    for (int c = 0; c < kN; ++c) {
      const F32 inv = inverse_or_zero(stored[c]);
      err[c] = select(splat(0.0f) < inv, choose<4>(inv).error * stored[c] * stored[c], energy);
    }
  }
};

// kLanes blocks are a super-block.
template <int kBlocksOfIt>
struct Type {
  static constexpr int kLanes = kBlocksOfIt, kLow = 1, kHigh = 15, kStep = 2, kParts = 1, kRounds = 1;
  static constexpr float kLevels[] = {1.3f, 1.7f, 2.1f, 2.5f};
};

// As bytes: the index of word i of lane l, which way it is moved, the code of a scale.
template <int kWords>
struct Stored {
  uint32_t entry[kWords][16];
  float way[kWords][16];
  uint8_t scale[16];
  int index(int i, int lane) const { return static_cast<int>(entry[i][lane] >> 16); }
  bool down(int i, int lane) const { return way[i][lane] < 0; }
};
template <class K, class Blocks>
inline Stored<Blocks::kWords> store_words(const Blocks& blocks, const Scales<K>& g) {
  Stored<Blocks::kWords> out;
  const auto chosen = blocks.choose(inverse_or_zero(g.scale * g.lanes()));
  for (int i = 0; i < Blocks::kWords; ++i) {
    to_array(chosen.entry[i], out.entry[i]);
    store(out.way[i], chosen.way[i]);
  }
  odd_codes(g.scale, out.scale);
  return out;
}

template <bool kWeighted>
struct S {
  static constexpr int kBytes = 50;
  static void step(const float* x, const float* importance, Effort effort, int blocks, uint8_t* out) {
    Shifted<32, false, kWeighted> fit;
    fit.read(x, importance);
    const auto g = fit_scales<Type<8>>(fit, effort);
    const auto words = store_words(fit, g);
    for (int s = 0; s < blocks / 8; ++s, out += kBytes) {
      g.put(s, out);
      for (int b = 0; b < 8; ++b) {
        const int lane = 8 * s + b;
        uint32_t high = static_cast<uint32_t>(words.scale[lane]) << 12 | (words.down(0, lane) ? 0x8000u : 0u);
        for (int i = 0; i < 4; ++i) {
          out[2 + 4 * b + i] = static_cast<uint8_t>(words.index(i, lane));
          high |= static_cast<uint32_t>(words.index(i, lane) >> 8) << 3 * i;
        }
        const auto half = static_cast<uint16_t>(high);
        std::memcpy(out + 34 + 2 * b, &half, 2);
      }
    }
  }
};

template <bool kWeighted>
struct M {
  static constexpr int kBytes = 56;
  static void step(const float* x, const float* importance, Effort effort, int, uint8_t* out) {
    Shifted<16, true, kWeighted> fit;
    fit.read(x, importance);
    const auto g = fit_scales<Type<16>>(fit, effort);
    const auto words = store_words(fit, g);
    uint16_t h;
    stored_unit<Type<16>>(g.d[0], &h);
    for (int k = 0; k < 32; k += 2) {
      int high = 0;
      for (int i = 0; i < 2; ++i) {
        out[k + i] = static_cast<uint8_t>(words.index(i, k / 2));
        high |= (words.index(i, k / 2) >> 8 | (words.down(i, k / 2) ? 8 : 0)) << 4 * i;
      }
      out[32 + k / 2] = static_cast<uint8_t>(high);
    }
    for (int i = 0; i < 4; ++i) {
      uint32_t scales = static_cast<uint32_t>(h >> 4 * i & 15) << 12;
      for (int b = 0; b < 4; ++b) scales |= static_cast<uint32_t>(words.scale[4 * i + b]) << 3 * b;
      const auto half = static_cast<uint16_t>(scales);
      std::memcpy(out + 48 + 2 * i, &half, 2);
    }
  }
};

void encode_iq1_s(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<S, 32, 256>(x, r, n, how, out); }
void encode_iq1_m(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode_either<M, 16, 256>(x, r, n, how, out); }

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void s(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq1_s)(x, r, n, how, out); }
void m(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { INGOT_DISPATCH(encode_iq1_m)(x, r, n, how, out); }
}  // namespace

extern const Codec kCodecIQ1_S, kCodecIQ1_M;
const Codec kCodecIQ1_S{DType::kIQ1_S, 1, s, decode_iq1_s, false, 65504.0f * 15};
const Codec kCodecIQ1_M{DType::kIQ1_M, 1, m, decode_iq1_m, false, 65504.0f * 15};

}  // namespace ingot
#endif
