// Super-blocks of 256 whose values are codewords, eight or four values each (grids.h): how they are read; iq1.cc, iq2.cc and iq3.cc write them. IQ2 and IQ3: magnitudes, with the signs beside; where only seven
// signs of eight are stored, their product is positive. IQ1: values, moved by an eighth up or down for each 32 (IQ1_S) or 8 (IQ1_M).
#include <array>
#include <bit>

#include "quant/blocks.h"
#include "quant/grids.h"

namespace ingot {
namespace {

// The grids as the values they stand for.
template <size_t kWords, int kValues, size_t kLevels>
std::array<std::array<int8_t, kValues>, kWords> unpack(const uint16_t (&words)[kWords], const int8_t (&levels)[kLevels]) {
  constexpr int kBits = 16 / kValues == 2 ? 2 : 3;
  std::array<std::array<int8_t, kValues>, kWords> t;
  for (size_t i = 0; i < kWords; ++i)
    for (int k = 0; k < kValues; ++k) t[i][static_cast<size_t>(k)] = levels[static_cast<size_t>(words[i] >> kBits * k & ((1 << kBits) - 1))];
  return t;
}
constexpr int8_t kLevels2[4] = {8, 25, 43, 0}, kLevels3Xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62}, kLevels3S[8] = {1, 3, 5, 7, 9, 11, 13, 15}, kLevels1[4] = {-8, 0, 8, 0};

// Seven signs and the eighth that makes their number even.
uint8_t eight_signs(uint32_t seven) { return static_cast<uint8_t>(seven | (std::popcount(seven) & 1u) << 7); }

// For each byte of signs, -1 in the bytes of what is negative.
constexpr auto kNegative = [] {
  std::array<std::array<int8_t, 8>, 256> t{};
  for (size_t i = 0; i < 256; ++i)
    for (size_t k = 0; k < 8; ++k) t[i][k] = i >> k & 1 ? -1 : 0;
  return t;
}();
template <size_t kValues>
void put(const std::array<int8_t, kValues>& word, uint32_t signs, int8_t* y) {
  const auto& negative = kNegative[signs & 255];
  for (size_t k = 0; k < kValues; ++k) y[k] = static_cast<int8_t>((word[k] ^ negative[k]) - negative[k]);
}

float nibble(const uint8_t* scales, int i) { return static_cast<float>(scales[i / 2] >> i % 2 * 4 & 15); }

}  // namespace

void levels_iq2_xxs(const uint8_t* p, Levels* l) {
  static const auto grid = unpack<256, 8>(kIq2Xxs, kLevels2);
  l->d = half(p);
  for (int b = 0; b < 8; ++b) {  // four indices, then four times seven signs and four bits of scale
    const uint8_t* q = p + 2 + 8 * b;
    const auto rest = field<uint32_t>(q + 4);
    set_scale(l, 2 * b, 2, l->d * (0.5f + static_cast<float>(rest >> 28)) * 0.25f);
    for (int k = 0; k < 4; ++k) put(grid[q[k]], eight_signs(rest >> 7 * k & 127), l->level + 32 * b + 8 * k);
  }
}

void levels_iq2_xs(const uint8_t* p, Levels* l) {
  static const auto grid = unpack<512, 8>(kIq2Xs, kLevels2);
  l->d = half(p);
  for (int g = 0; g < 16; ++g) l->scale[g] = l->d * (0.5f + nibble(p + 66, g)) * 0.25f;
  for (int k = 0; k < 32; ++k) {
    const auto q = field<uint16_t>(p + 2 + 2 * k);
    put(grid[q & 511], eight_signs(q >> 9), l->level + 8 * k);
  }
}

void levels_iq2_s(const uint8_t* p, Levels* l) {
  static const auto grid = unpack<1024, 8>(kIq2S, kLevels2);
  const uint8_t *low = p + 2, *signs = p + 34, *high = p + 66, *scales = p + 74;
  l->d = half(p);
  for (int g = 0; g < 16; ++g) l->scale[g] = l->d * (0.5f + nibble(scales, g)) * 0.25f;
  for (int k = 0; k < 32; ++k) put(grid[static_cast<size_t>(low[k] | (high[k / 4] >> k % 4 * 2 & 3) << 8)], signs[k], l->level + 8 * k);
}

void levels_iq3_xxs(const uint8_t* p, Levels* l) {
  static const auto grid = unpack<256, 4>(kIq3Xxs, kLevels3Xxs);
  l->d = half(p);
  for (int b = 0; b < 8; ++b) {
    const auto rest = field<uint32_t>(p + 66 + 4 * b);
    set_scale(l, 2 * b, 2, l->d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f);
    for (int k = 0; k < 8; ++k) put(grid[p[2 + 8 * b + k]], eight_signs(rest >> k / 2 * 7 & 127) >> k % 2 * 4, l->level + 32 * b + 4 * k);
  }
}

void levels_iq3_s(const uint8_t* p, Levels* l) {
  static const auto grid = unpack<512, 4>(kIq3S, kLevels3S);
  const uint8_t *low = p + 2, *high = p + 66, *signs = p + 74, *scales = p + 106;
  l->d = half(p);
  for (int b = 0; b < 8; ++b) set_scale(l, 2 * b, 2, l->d * (1 + 2 * nibble(scales, b)));
  for (int k = 0; k < 64; ++k)
    put(grid[static_cast<size_t>(low[k] | (high[k / 8] >> k % 8 & 1) << 8)], static_cast<uint32_t>(signs[k / 2] >> k % 2 * 4), l->level + 4 * k);
}

namespace {
// Eighths: -8, 0 or 8, and one up or down.
void put1(size_t index, bool down, int8_t* y) {
  static const auto grid = unpack<2048, 8>(kIq1, kLevels1);
  for (size_t k = 0; k < 8; ++k) y[k] = static_cast<int8_t>(grid[index][k] + (down ? -1 : 1));
}
}  // namespace

void levels_iq1_s(const uint8_t* p, Levels* l) {
  l->d = half(p);
  for (int b = 0; b < 8; ++b) {  // four times three high bits, three bits of scale, which way
    const auto high = field<uint16_t>(p + 34 + 2 * b);
    set_scale(l, 2 * b, 2, l->d * static_cast<float>(2 * (high >> 12 & 7) + 1) * 0.125f);
    for (int k = 0; k < 4; ++k) put1(static_cast<size_t>(p[2 + 4 * b + k] | (high >> 3 * k & 7) << 8), high >> 15, l->level + 32 * b + 8 * k);
  }
}

void levels_iq1_m(const uint8_t* p, Levels* l) {
  uint16_t scales[4], h = 0;  // four times three bits of scale, and four bits of the f16
  for (int i = 0; i < 4; ++i) {
    scales[i] = field<uint16_t>(p + 48 + 2 * i);
    h = static_cast<uint16_t>(h | scales[i] >> 12 << 4 * i);
  }
  l->d = half(h);
  for (int g = 0; g < 16; ++g) l->scale[g] = l->d * static_cast<float>(2 * (scales[g / 4] >> g % 4 * 3 & 7) + 1) * 0.125f;
  for (int k = 0; k < 32; ++k) {
    const int high = p[32 + k / 2] >> k % 2 * 4 & 15;
    put1(static_cast<size_t>(p[k] | (high & 7) << 8), high & 8, l->level + 8 * k);
  }
}

}  // namespace ingot
