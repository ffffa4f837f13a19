// Four-bit codes of a table, read here and written by iq4.cc and fp4.cc: IQ4_NL (32 values, f16 d) and IQ4_XS (256 values, f16 d and six bits of scale for each 32), whose table is llama.cpp's;
// MXFP4 (32 values, a power of two) and NVFP4 (64 values, an unsigned E4M3 scale for each 16), whose table are the E2M1 numbers, here doubled (OCP Microscaling
// Formats v1.0).
#include <array>
#include <bit>
#include <cmath>

#include "quant/blocks.h"
#include "quant/grids.h"

namespace ingot {
namespace {

constexpr int8_t kE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
constexpr auto kIq4Levels = [] {
  std::array<int8_t, 16> t{};
  for (size_t i = 0; i < 16; ++i) t[i] = static_cast<int8_t>(kIq4[i]);
  return t;
}();

// The first half of the values in the low nibbles.
void nibbles(const uint8_t* p, int bytes, const int8_t* table, int8_t* level) {
  for (int i = 0; i < bytes; ++i) level[i] = table[p[i] & 15], level[i + bytes] = table[p[i] >> 4];
}

// Half of 2^(code - 127), as the table is doubled. 255 is no number by the standard; ggml and this take it as what would follow.
float e8m0_half(uint8_t code) { return std::bit_cast<float>(code < 2 ? uint32_t{0x00200000} << code : static_cast<uint32_t>(code - 1) << 23); }

// Half of the number. Its last code is no number by the standard; ggml and this take it as 0. The sign bit is not used.
float ue4m3_half(uint8_t code) {
  if (code == 0x7f) return 0;
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  return std::ldexp(static_cast<float>(exponent ? 8 + mantissa : mantissa), (exponent ? exponent : 1) - 11);
}

}  // namespace

void levels_iq4_nl(const uint8_t* p, Levels* l) {
  l->d = half(p);
  set_scale(l, 0, 2, l->d);
  nibbles(p + 2, 16, kIq4Levels.data(), l->level);
}

void levels_iq4_xs(const uint8_t* p, Levels* l) {
  l->d = half(p);
  const auto high = field<uint16_t>(p + 2);
  for (int b = 0; b < 8; ++b) {
    const int scale = (p[4 + b / 2] >> b % 2 * 4 & 15) | (high >> 2 * b & 3) << 4;
    set_scale(l, 2 * b, 2, l->d * static_cast<float>(scale - 32));
    nibbles(p + 8 + 16 * b, 16, kIq4Levels.data(), l->level + 32 * b);
  }
}

void levels_mxfp4(const uint8_t* p, Levels* l) {
  l->d = e8m0_half(p[0]);
  set_scale(l, 0, 2, l->d);
  nibbles(p + 1, 16, kE2M1, l->level);
}

void levels_nvfp4(const uint8_t* p, Levels* l) {
  l->d = 1;
  for (int b = 0; b < 4; ++b) {
    l->scale[b] = ue4m3_half(p[b]);
    nibbles(p + 4 + 8 * b, 8, kE2M1, l->level + 16 * b);
  }
}

}  // namespace ingot
