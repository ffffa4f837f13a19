// Super-blocks of 256: Q2_K (value = d * scale * q - dmin * min, two bits), Q4_K and Q5_K (the same with four and five), Q3_K (d * scale * (q - 4), three bits), Q6_K (d * scale * (q - 32)), Q8_K (d * q,
// f32 d; the sums behind it are the engine's).
#include "quant/blocks.h"

namespace ingot {
namespace {

// Two-bit codes of 128 values lie in 32 bytes: bits 0 and 1 are of the first 32 values, 2 and 3 of the next.
void twos(const uint8_t* p, int8_t* level) {
  for (int n = 0; n < 2; ++n)
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 32; ++i) level[128 * n + 32 * j + i] = static_cast<int8_t>(p[32 * n + i] >> 2 * j & 3);
}

// Eight scales and eight minima of six bits in twelve bytes, for 32 values each.
void scales_of_k4(const uint8_t* p, Levels* l) {
  l->d = half(p), l->dmin = half(p + 2);
  const uint8_t* s = p + 4;
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4, min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    set_scale(l, 2 * j, 2, l->d * static_cast<float>(scale));
    set_min(l, 2 * j, 2, l->dmin * static_cast<float>(min));
  }
}
// 64 values in 32 bytes, the first 32 in the low nibbles.
void fours(const uint8_t* p, int8_t* level) {
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 32; ++i) {
      level[64 * c + i] = static_cast<int8_t>(p[32 * c + i] & 15);
      level[64 * c + 32 + i] = static_cast<int8_t>(p[32 * c + i] >> 4);
    }
}

}  // namespace

void levels_q2_k(const uint8_t* p, Levels* l) {
  l->d = half(p + 80), l->dmin = half(p + 82);
  for (int g = 0; g < 16; ++g) {
    l->scale[g] = l->d * static_cast<float>(p[g] & 15);
    l->min[g] = l->dmin * static_cast<float>(p[g] >> 4);
  }
  twos(p + 16, l->level);
}

void levels_q3_k(const uint8_t* p, Levels* l) {
  const uint8_t *high = p, *scales = p + 96;
  l->d = half(p + 108);
  for (int g = 0; g < 16; ++g) {
    // Six bits: four in a nibble of the first eight bytes, two in the last four bytes.
    const int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
    l->scale[g] = l->d * static_cast<float>((low | (scales[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32);
  }
  twos(p + 32, l->level);
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 32; ++i) l->level[32 * j + i] = static_cast<int8_t>(l->level[32 * j + i] - 4 + (high[i] >> j & 1) * 4);
}

void levels_q4_k(const uint8_t* p, Levels* l) {
  scales_of_k4(p, l);
  fours(p + 16, l->level);
}

void levels_q5_k(const uint8_t* p, Levels* l) {
  scales_of_k4(p, l);
  fours(p + 48, l->level);
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 32; ++i) l->level[32 * j + i] = static_cast<int8_t>(l->level[32 * j + i] + (p[16 + i] >> j & 1) * 16);
}

void levels_q6_k(const uint8_t* p, Levels* l) {
  l->d = half(p + 208);
  for (int g = 0; g < 16; ++g) l->scale[g] = l->d * static_cast<float>(static_cast<int8_t>(p[192 + g]));
  for (int n = 0; n < 2; ++n)
    for (int i = 0; i < 32; ++i) {
      const int a = p[64 * n + i], b = p[64 * n + 32 + i], high = p[128 + 32 * n + i];
      int8_t* to = l->level + 128 * n + i;
      to[0] = static_cast<int8_t>(((a & 15) | (high & 3) << 4) - 32);
      to[32] = static_cast<int8_t>(((b & 15) | (high >> 2 & 3) << 4) - 32);
      to[64] = static_cast<int8_t>((a >> 4 | (high >> 4 & 3) << 4) - 32);
      to[96] = static_cast<int8_t>((b >> 4 | (high >> 6 & 3) << 4) - 32);
    }
}

void levels_q8_k(const uint8_t* p, Levels* l) {
  l->d = field<float>(p);
  set_scale(l, 0, 16, l->d);
  std::memcpy(l->level, p + 4, 256);
}

}  // namespace ingot
