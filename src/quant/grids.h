// What llama.cpp's IQ4 types have in the place of evenly spaced numbers, and the codewords of its IQ2, IQ3 and IQ1 types: what an index in such a block stands for, the first value in the lowest bits.
#pragma once

#include <cstdint>

namespace ingot {

inline constexpr float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Eight magnitudes of two bits: 8, 25, 43 stand for 0, 1, 2 (a sign each beside them).
extern const uint16_t kIq2Xxs[256], kIq2Xs[512], kIq2S[1024];
// Four magnitudes of three bits.
extern const uint16_t kIq3Xxs[256];  // 4, 12, 20, 28, 36, 44, 52, 62
extern const uint16_t kIq3S[512];    // 1, 3, .. 15
// Eight values of two bits: -1, 0, 1.
extern const uint16_t kIq1[2048];

}  // namespace ingot
