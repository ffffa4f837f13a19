// Four-bit codes of a table, read here and written by iq4.cc and fp4.cc: IQ4_NL (32 values, f16 d) and IQ4_XS (256 values, f16 d and six bits of scale for each 32), whose table is llama.cpp's;
// MXFP4 (32 values, a power of two) and NVFP4 (64 values, an unsigned E4M3 scale for each 16), whose table are the E2M1 numbers, here doubled (OCP Microscaling
// Formats v1.0).
#include <bit>
#include <cmath>

#include "quant/blocks.h"
#include "quant/decode.h"
#include "quant/grids.h"

namespace ingot {
namespace {

constexpr float kE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// The first half of the values in the low nibbles.
void decode_nibbles(const uint8_t* p, int bytes, float d, const float (&table)[16], float* y) {
  for (int i = 0; i < bytes; ++i) y[i] = d * table[p[i] & 15], y[i + bytes] = d * table[p[i] >> 4];
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

void decode_iq4_nl(const std::byte* in, int64_t n, float* out) {
  each_block<32, 18>(in, n, out, [](const uint8_t* p, float* y) { decode_nibbles(p + 2, 16, half(p), kIq4, y); });
}

void decode_iq4_xs(const std::byte* in, int64_t n, float* out) {
  each_block<256, 136>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    const auto high = field<uint16_t>(p + 2);
    for (int b = 0; b < 8; ++b) {
      const int scale = (p[4 + b / 2] >> b % 2 * 4 & 15) | (high >> 2 * b & 3) << 4;
      decode_nibbles(p + 8 + 16 * b, 16, d * static_cast<float>(scale - 32), kIq4, y + 32 * b);
    }
  });
}

void decode_mxfp4(const std::byte* in, int64_t n, float* out) {
  each_block<32, 17>(in, n, out, [](const uint8_t* p, float* y) { decode_nibbles(p + 1, 16, e8m0_half(p[0]), kE2M1, y); });
}

void decode_nvfp4(const std::byte* in, int64_t n, float* out) {
  each_block<64, 36>(in, n, out, [](const uint8_t* p, float* y) {
    for (int b = 0; b < 4; ++b) decode_nibbles(p + 4 + 8 * b, 8, ue4m3_half(p[b]), kE2M1, y + 16 * b);
  });
}

}  // namespace ingot
