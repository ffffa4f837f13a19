// Blocks of 32 that ingot reads only: Q4_1 and Q5_1 (value = d * q + m), Q5_0 (d * (q - 16)), Q8_1 (d * q; the sum behind it is the engine's); and those of one
// and two bits, Q1_0 (128 values, d or -d) and Q2_0 (64 values, d * (q - 1)). Everywhere d and m are f16.
#include "quant/blocks.h"
#include "quant/decode.h"

namespace ingot {

void decode_q4_1(const std::byte* in, int64_t n, float* out) {
  each_block<32, 20>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p), m = half(p + 2);
    for (int i = 0; i < 16; ++i) y[i] = d * static_cast<float>(p[4 + i] & 15) + m, y[i + 16] = d * static_cast<float>(p[4 + i] >> 4) + m;
  });
}

namespace {
// The five-bit code of value i: its low bits in one of two nibbles, the fifth in a word.
int code5(const uint8_t* nibbles, uint32_t high, int i) { return (i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4) | static_cast<int>(high >> i & 1) << 4; }
}  // namespace

void decode_q5_0(const std::byte* in, int64_t n, float* out) {
  each_block<32, 22>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    const auto high = field<uint32_t>(p + 2);
    for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(code5(p + 6, high, i) - 16);
  });
}

void decode_q5_1(const std::byte* in, int64_t n, float* out) {
  each_block<32, 24>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p), m = half(p + 2);
    const auto high = field<uint32_t>(p + 4);
    for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(code5(p + 8, high, i)) + m;
  });
}

void decode_q8_1(const std::byte* in, int64_t n, float* out) {
  each_block<32, 36>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(p[4 + i]));
  });
}

void decode_q1_0(const std::byte* in, int64_t n, float* out) {
  each_block<128, 18>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int i = 0; i < 128; ++i) y[i] = p[2 + i / 8] >> i % 8 & 1 ? d : -d;
  });
}

void decode_q2_0(const std::byte* in, int64_t n, float* out) {
  each_block<64, 18>(in, n, out, [](const uint8_t* p, float* y) {
    const float d = half(p);
    for (int i = 0; i < 64; ++i) y[i] = d * static_cast<float>((p[2 + i / 4] >> i % 4 * 2 & 3) - 1);
  });
}

}  // namespace ingot
