// Three values, -d, 0 and d, in super-blocks of 256, read here and written by ternary.cc: TQ1_0 (five of them in most bytes) and TQ2_0 (two bits each). d is an f16 at the end.
#include "quant/blocks.h"
#include "quant/decode.h"

namespace ingot {

void decode_tq1_0(const std::byte* in, int64_t n, float* out) {
  each_block<256, 54>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p + 52);
    // A byte is a fraction of 256: times 3, what is carried out is the first digit; times 3 again, the next.
    const auto digits = [&](const uint8_t* bytes, int count, int each) {
      for (int power = 1, k = 0; k < each; ++k, power *= 3)
        for (int i = 0; i < count; ++i) *y++ = d * static_cast<float>((static_cast<uint8_t>(bytes[i] * power) * 3 >> 8) - 1);
    };
    digits(p, 32, 5);
    digits(p + 32, 16, 5);
    digits(p + 48, 4, 4);
  });
}

void decode_tq2_0(const std::byte* in, int64_t n, float* out) {
  each_block<256, 66>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p + 64);
    for (int i = 0; i < 256; ++i) y[i] = d * static_cast<float>((p[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - 1);
  });
}

}  // namespace ingot
