// F32, F16, BF16: plain casts, one value an element.
#include <cfloat>
#include <cstring>

#include "kernels/cast.h"
#include "quant/codec.h"

namespace ingot {
namespace {

void encode_f32(const float* x, int64_t rows, int64_t n, const EncodeContext&, std::byte* out) {
  if (rows * n > 0) std::memcpy(out, x, static_cast<size_t>(rows * n) * 4);
}
void decode_f32(const std::byte* in, int64_t n, float* out) {
  if (n > 0) std::memcpy(out, in, static_cast<size_t>(n) * 4);
}

// The kernels move 16-bit values with unaligned loads and stores, so bytes at an odd address are fine there;
// the cast through uint16_t* only names the width.
uint16_t* as_u16(std::byte* p) { return reinterpret_cast<uint16_t*>(p); }
const uint16_t* as_u16(const std::byte* p) { return reinterpret_cast<const uint16_t*>(p); }

void encode_f16(const float* x, int64_t rows, int64_t n, const EncodeContext&, std::byte* out) {
  f32_to_f16(x, rows * n, as_u16(out));
}
void decode_f16(const std::byte* in, int64_t n, float* out) { f16_to_f32(as_u16(in), n, out); }
void encode_bf16(const float* x, int64_t rows, int64_t n, const EncodeContext&, std::byte* out) {
  f32_to_bf16(x, rows * n, as_u16(out));
}
void decode_bf16(const std::byte* in, int64_t n, float* out) { bf16_to_f32(as_u16(in), n, out); }

}  // namespace

extern const Codec kCodecF32, kCodecF16, kCodecBF16;
const Codec kCodecF32{DType::kF32, 1, encode_f32, decode_f32, true, FLT_MAX};
const Codec kCodecF16{DType::kF16, 1, encode_f16, decode_f16, true, 65504.0f};
const Codec kCodecBF16{DType::kBF16, 1, encode_bf16, decode_bf16, true, FLT_MAX};

}  // namespace ingot
