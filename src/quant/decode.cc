// The table of what is read; blocks by their levels; the 8-bit floats and F64.
#include "quant/decode.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "quant/codec.h"
#include "quant/levels.h"

namespace ingot {
namespace {

float with_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// NaN has the bits that torch's casts give it.
enum class Ends { kNan, kInfinities, kUnsignedZero };  // E4M3FN: the last code is NaN; E5M2: as IEEE has it; FNUZ: the code of -0 is NaN
template <int mantissa_bits, int bias, Ends ends>
float value_of(uint32_t code) {
  const uint32_t magnitude = code & 0x7F, mantissa = magnitude & ((1u << mantissa_bits) - 1), exponent = magnitude >> mantissa_bits, sign = code & 0x80;
  if (ends == Ends::kUnsignedZero && code == 0x80) return with_bits(0x7F800001);
  if (ends == Ends::kNan ? magnitude == 0x7F : ends == Ends::kInfinities && exponent == 0x7F >> mantissa_bits)
    return with_bits(sign << 24 | 0x7F800000u | mantissa << (23 - mantissa_bits) | (mantissa ? 0x400000u : 0));
  const uint32_t significand = exponent ? mantissa + (1u << mantissa_bits) : mantissa;
  const float v = std::ldexp(static_cast<float>(significand), std::max(static_cast<int>(exponent), 1) - bias - mantissa_bits);
  return sign ? -v : v;
}
float e8m0_value(uint32_t code) { return code == 0xFF ? with_bits(0x7F800001) : std::ldexp(1.0f, static_cast<int>(code) - 127); }

template <float (*value)(uint32_t)>
void decode_f8(const std::byte* in, int64_t n, float* out) {
  static const auto table = [] {
    std::array<float, 256> t;
    for (uint32_t i = 0; i < 256; ++i) t[i] = value(i);
    return t;
  }();
  for (int64_t i = 0; i < n; ++i) out[i] = table[std::to_integer<size_t>(in[i])];
}

void decode_f64(const std::byte* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    double v;
    std::memcpy(&v, in + i * 8, 8);
    out[i] = static_cast<float>(v);
  }
}

// By levels.
template <void (*read)(const uint8_t*, Levels*), bool has_min>
void decode_blocks(const std::byte* in, int64_t n, float* out, int64_t values, int64_t bytes) {
  Levels l;
  const auto* p = reinterpret_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < n; i += values, p += bytes) {
    read(p, &l);
    for (int64_t g = 0; g < values / 16; ++g, out += 16) {
      const float scale = l.scale[g];
      for (int64_t k = 0; k < 16; ++k) out[k] = scale * static_cast<float>(l.level[16 * g + k]);
      if (!has_min) continue;
      const float min = l.min[g];
      for (int64_t k = 0; k < 16; ++k) out[k] -= min;
    }
  }
}

constexpr LevelReader kReaders[] = {
#define DECODER(type, name, low, high, min, halves) {DType::k##type, levels_##name, low, high, min, halves},
#define READER DECODER
#include "quant/decoders.def"
#undef READER
#undef DECODER
};

}  // namespace

#define DECODER(type, name, low, high, min, halves) \
  void decode_##name(const std::byte* in, int64_t n, float* out) { decode_blocks<levels_##name, min>(in, n, out, info(DType::k##type).block, info(DType::k##type).bytes); }
#define READER(type, name, low, high, min, halves)
#include "quant/decoders.def"
#undef READER
#undef DECODER

namespace {

constexpr std::pair<DType, Decode> kDecoders[] = {
    {DType::kF8E4M3, decode_f8<value_of<3, 7, Ends::kNan>>},
    {DType::kF8E5M2, decode_f8<value_of<2, 15, Ends::kInfinities>>},
    {DType::kF8E4M3Fnuz, decode_f8<value_of<3, 8, Ends::kUnsignedZero>>},
    {DType::kF8E5M2Fnuz, decode_f8<value_of<2, 16, Ends::kUnsignedZero>>},
    {DType::kF8E8M0, decode_f8<e8m0_value>},
    {DType::kF64, decode_f64},
// Also those that codecs of encoders have made their own.
#define DECODER(type, name, low, high, min, halves) {DType::k##type, decode_##name},
#define READER(type, name, low, high, min, halves)
#include "quant/decoders.def"
#undef READER
#undef DECODER
};

}  // namespace

Decode find_decode(DType t) {
  if (const Codec* codec = find_codec(t)) return codec->decode;
  for (const auto& [type, decode] : kDecoders)
    if (type == t) return decode;
  return nullptr;
}

const LevelReader* find_levels(DType type) {
  for (const LevelReader& r : kReaders)
    if (r.type == type) return &r;
  return nullptr;
}

std::string read_tag(DType t) {
  const Codec* codec = find_codec(t);
  return fmt::format("{}v{}", info(t).name, codec ? codec->version : 1);
}

}  // namespace ingot
