// Blocks of 32: Q8_0 and Q8_1 (value = d * q; the sum behind Q8_1's is the engine's), Q4_0 (d * (q - 8)), Q5_0 (d * (q - 16)), Q4_1 and Q5_1 (d * q + m); and those of one and two bits, Q1_0 (128
// values, d or -d) and Q2_0 (64 values, d * (q - 1)). Everywhere d and m are f16.
#include "quant/blocks.h"

namespace ingot {
namespace {

void whole(Levels* l, int groups, float d) {
  l->d = d;
  set_scale(l, 0, groups, d);
}

// The first 16 values in the low nibbles.
void nibbles(const uint8_t* p, int offset, int8_t* level) {
  for (int i = 0; i < 16; ++i) {
    level[i] = static_cast<int8_t>((p[i] & 15) - offset);
    level[i + 16] = static_cast<int8_t>((p[i] >> 4) - offset);
  }
}
// Five bits: the fifth of value i in bit i of a word.
void fives(const uint8_t* p, uint32_t high, int offset, int8_t* level) {
  nibbles(p, offset, level);
  for (int i = 0; i < 32; ++i) level[i] = static_cast<int8_t>(level[i] + static_cast<int>(high >> i & 1) * 16);
}

}  // namespace

void levels_q8_0(const uint8_t* p, Levels* l) {
  whole(l, 2, half(p));
  std::memcpy(l->level, p + 2, 32);
}

void levels_q8_1(const uint8_t* p, Levels* l) {
  whole(l, 2, half(p));
  std::memcpy(l->level, p + 4, 32);
}

void levels_q4_0(const uint8_t* p, Levels* l) {
  whole(l, 2, half(p));
  nibbles(p + 2, 8, l->level);
}

void levels_q4_1(const uint8_t* p, Levels* l) {
  whole(l, 2, half(p));
  set_min(l, 0, 2, -half(p + 2));
  nibbles(p + 4, 0, l->level);
}

void levels_q5_0(const uint8_t* p, Levels* l) {
  whole(l, 2, half(p));
  fives(p + 6, field<uint32_t>(p + 2), 16, l->level);
}

void levels_q5_1(const uint8_t* p, Levels* l) {
  whole(l, 2, half(p));
  set_min(l, 0, 2, -half(p + 2));
  fives(p + 8, field<uint32_t>(p + 4), 0, l->level);
}

void levels_q1_0(const uint8_t* p, Levels* l) {
  whole(l, 8, half(p));
  for (int i = 0; i < 128; ++i) l->level[i] = p[2 + i / 8] >> i % 8 & 1 ? 1 : -1;
}

void levels_q2_0(const uint8_t* p, Levels* l) {
  whole(l, 4, half(p));
  for (int i = 0; i < 64; ++i) l->level[i] = static_cast<int8_t>((p[2 + i / 4] >> i % 4 * 2 & 3) - 1);
}

}  // namespace ingot
