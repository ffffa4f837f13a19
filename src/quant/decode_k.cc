// Super-blocks of 256 that ingot reads only: Q2_K (value = d * scale * q - dmin * min, two bits), Q3_K (d * scale * (q - 4), three bits), Q8_K (d * q, f32 d; the
// sums behind it are the engine's).
#include "quant/blocks.h"
#include "quant/decode.h"

namespace ingot {
namespace {

// Two-bit codes of 128 values lie in 32 bytes: bits 0 and 1 are of the first 32 values, 2 and 3 of the next. So value i of 256:
int code2(const uint8_t* codes, int i) { return codes[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3; }

}  // namespace

void decode_q2_k(const std::byte* in, int64_t n, float* out) {
  each_block<256, 84>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p + 80), dmin = half(p + 82);
    for (int b = 0; b < 16; ++b) {
      const float scale = d * static_cast<float>(p[b] & 15), min = dmin * static_cast<float>(p[b] >> 4);
      for (int i = 16 * b; i < 16 * b + 16; ++i) y[i] = scale * static_cast<float>(code2(p + 16, i)) - min;
    }
  });
}

void decode_q3_k(const std::byte* in, int64_t n, float* out) {
  each_block<256, 110>(in, n, out, [](const uint8_t* p, float* y) {
    const uint8_t *high = p, *codes = p + 32, *scales = p + 96;
    const float d = half(p + 108);
    for (int b = 0; b < 16; ++b) {
      // Six bits: four in a nibble of the first eight bytes, two in the last four bytes.
      const int low = b < 8 ? scales[b] & 15 : scales[b - 8] >> 4;
      const float scale = d * static_cast<float>((low | (scales[8 + b % 4] >> b / 4 * 2 & 3) << 4) - 32);
      for (int i = 16 * b; i < 16 * b + 16; ++i) y[i] = scale * static_cast<float>(code2(codes, i) - (high[i % 32] >> i / 32 & 1 ? 0 : 4));
    }
  });
}

void decode_q8_k(const std::byte* in, int64_t n, float* out) {
  each_block<256, 292>(in, n, out, [](const uint8_t* p, float* y) {
    const auto d = field<float>(p);
    for (int i = 0; i < 256; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(p[4 + i]));
  });
}

}  // namespace ingot
