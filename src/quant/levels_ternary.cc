// Three values, -d, 0 and d, in super-blocks of 256, read here and written by ternary.cc: TQ1_0 (five of them in most bytes) and TQ2_0 (two bits each). d is an f16 at the end.
#include "quant/blocks.h"

namespace ingot {

void levels_tq1_0(const uint8_t* p, Levels* l) {
  l->d = half(p + 52);
  set_scale(l, 0, 16, l->d);
  int8_t* y = l->level;
  // A byte is a fraction of 256: times 3, what is carried out is the first digit; times 3 again, the next.
  const auto digits = [&](const uint8_t* bytes, int count, int each) {
    for (int power = 1, k = 0; k < each; ++k, power *= 3)
      for (int i = 0; i < count; ++i) *y++ = static_cast<int8_t>((static_cast<uint8_t>(bytes[i] * power) * 3 >> 8) - 1);
  };
  digits(p, 32, 5);
  digits(p + 32, 16, 5);
  digits(p + 48, 4, 4);
}

void levels_tq2_0(const uint8_t* p, Levels* l) {
  l->d = half(p + 64);
  set_scale(l, 0, 16, l->d);
  for (int n = 0; n < 2; ++n)
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 32; ++i) l->level[128 * n + 32 * j + i] = static_cast<int8_t>((p[32 * n + i] >> 2 * j & 3) - 1);
}

}  // namespace ingot
