// Super-blocks of 256 whose values are codewords, eight or four values each (grids.h): how they are read; iq1.cc, iq2.cc and iq3.cc write them. IQ2 and IQ3: magnitudes, with the signs beside; where only seven
// signs of eight are stored, their product is positive. IQ1: values, moved by an eighth up or down for each 32 (IQ1_S) or 8 (IQ1_M).
#include <array>
#include <bit>

#include "quant/blocks.h"
#include "quant/decode.h"
#include "quant/grids.h"

namespace ingot {
namespace {

// The grids as the values they stand for.
template <size_t kWords, int kValues, size_t kLevels>
std::array<std::array<float, kValues>, kWords> unpack(const uint16_t (&words)[kWords], const float (&levels)[kLevels]) {
  constexpr int kBits = 16 / kValues == 2 ? 2 : 3;
  std::array<std::array<float, kValues>, kWords> t;
  for (size_t i = 0; i < kWords; ++i)
    for (int k = 0; k < kValues; ++k) t[i][static_cast<size_t>(k)] = levels[static_cast<size_t>(words[i] >> kBits * k & ((1 << kBits) - 1))];
  return t;
}
constexpr float kLevels2[4] = {8, 25, 43, 0}, kLevels3Xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62}, kLevels3S[8] = {1, 3, 5, 7, 9, 11, 13, 15}, kLevels1[4] = {-1, 0, 1, 0};

// Seven signs and the eighth that makes their number even.
uint8_t eight_signs(uint32_t seven) { return static_cast<uint8_t>(seven | (std::popcount(seven) & 1u) << 7); }

template <size_t kValues>
void put(const std::array<float, kValues>& word, float d, uint32_t signs, float* y) {
  for (size_t k = 0; k < kValues; ++k) y[k] = signs >> k & 1 ? -(d * word[k]) : d * word[k];
}

float nibble(const uint8_t* scales, int i) { return static_cast<float>(scales[i / 2] >> i % 2 * 4 & 15); }

}  // namespace

void decode_iq2_xxs(const std::byte* in, int64_t n, float* out) {
  static const auto grid = unpack<256, 8>(kIq2Xxs, kLevels2);
  each_block<256, 66>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int b = 0; b < 8; ++b) {  // four indices, then four times seven signs and four bits of scale
      const uint8_t* q = p + 2 + 8 * b;
      const auto rest = field<uint32_t>(q + 4);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.25f;
      for (int k = 0; k < 4; ++k) put(grid[q[k]], scale, eight_signs(rest >> 7 * k & 127), y + 32 * b + 8 * k);
    }
  });
}

void decode_iq2_xs(const std::byte* in, int64_t n, float* out) {
  static const auto grid = unpack<512, 8>(kIq2Xs, kLevels2);
  each_block<256, 74>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int k = 0; k < 32; ++k) {
      const auto q = field<uint16_t>(p + 2 + 2 * k);
      put(grid[q & 511], d * (0.5f + nibble(p + 66, k / 2)) * 0.25f, eight_signs(q >> 9), y + 8 * k);
    }
  });
}

void decode_iq2_s(const std::byte* in, int64_t n, float* out) {
  static const auto grid = unpack<1024, 8>(kIq2S, kLevels2);
  each_block<256, 82>(in, n, out, [](const uint8_t* p, float* y) {
    const uint8_t *low = p + 2, *signs = p + 34, *high = p + 66, *scales = p + 74;
    const float d = half(p);
    for (int k = 0; k < 32; ++k)
      put(grid[static_cast<size_t>(low[k] | (high[k / 4] >> k % 4 * 2 & 3) << 8)], d * (0.5f + nibble(scales, k / 2)) * 0.25f, signs[k], y + 8 * k);
  });
}

void decode_iq3_xxs(const std::byte* in, int64_t n, float* out) {
  static const auto grid = unpack<256, 4>(kIq3Xxs, kLevels3Xxs);
  each_block<256, 98>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int b = 0; b < 8; ++b) {
      const auto rest = field<uint32_t>(p + 66 + 4 * b);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
      for (int k = 0; k < 8; ++k) put(grid[p[2 + 8 * b + k]], scale, eight_signs(rest >> k / 2 * 7 & 127) >> k % 2 * 4, y + 32 * b + 4 * k);
    }
  });
}

void decode_iq3_s(const std::byte* in, int64_t n, float* out) {
  static const auto grid = unpack<512, 4>(kIq3S, kLevels3S);
  each_block<256, 110>(in, n, out, [](const uint8_t* p, float* y) {
    const uint8_t *low = p + 2, *high = p + 66, *signs = p + 74, *scales = p + 106;
    const float d = half(p);
    for (int k = 0; k < 64; ++k)
      put(grid[static_cast<size_t>(low[k] | (high[k / 8] >> k % 8 & 1) << 8)], d * (1 + 2 * nibble(scales, k / 8)), static_cast<uint32_t>(signs[k / 2] >> k % 2 * 4), y + 4 * k);
  });
}

namespace {
const std::array<std::array<float, 8>, 2048>& grid1() {
  static const auto grid = unpack<2048, 8>(kIq1, kLevels1);
  return grid;
}
void put1(size_t index, float d, bool down, float* y) {
  for (size_t k = 0; k < 8; ++k) y[k] = d * (grid1()[index][k] + (down ? -0.125f : 0.125f));
}
}  // namespace

void decode_iq1_s(const std::byte* in, int64_t n, float* out) {
  each_block<256, 50>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int b = 0; b < 8; ++b) {  // four times three high bits, three bits of scale, which way
      const auto high = field<uint16_t>(p + 34 + 2 * b);
      const float scale = d * static_cast<float>(2 * (high >> 12 & 7) + 1);
      for (int k = 0; k < 4; ++k) put1(static_cast<size_t>(p[2 + 4 * b + k] | (high >> 3 * k & 7) << 8), scale, high >> 15, y + 32 * b + 8 * k);
    }
  });
}

void decode_iq1_m(const std::byte* in, int64_t n, float* out) {
  each_block<256, 56>(in, n, out, [](const uint8_t* p, float* y) {
    uint16_t scales[4], h = 0;  // four times three bits of scale, and four bits of the f16
    for (int i = 0; i < 4; ++i) {
      scales[i] = field<uint16_t>(p + 48 + 2 * i);
      h = static_cast<uint16_t>(h | scales[i] >> 12 << 4 * i);
    }
    const float d = half(h);
    for (int k = 0; k < 32; ++k) {
      const int high = p[32 + k / 2] >> k % 2 * 4 & 15;
      const float scale = d * static_cast<float>(2 * (scales[k / 8] >> k / 2 % 4 * 3 & 7) + 1);
      put1(static_cast<size_t>(p[k] | (high & 7) << 8), scale, high & 8, y + 8 * k);
    }
  });
}

}  // namespace ingot
