// Q3_K and Q6_K: super-blocks of 256 values in sixteen blocks of 16, value = d * scale * q with a signed scale for each block, d f16 for the super-block. Q6_K: scales
// of 8 bits, q of 6 bits from -32 to 31; Q3_K: scales of 6 bits, q of 3 bits from -4 to 3. One super-block is sixteen lanes.
#include <cstdint>
#include <cstring>

#include "quant/codec.h"
#include "quant/decode.h"

#define INGOT_TARGET_FILE "quant/k_symmetric.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "quant/lanes-inl.h"
#include "quant/symmetric-inl.h"
#include "quant/scales-inl.h"

constexpr int kSuper = 256;

// A type as scales-inl.h has it: the bytes of a super-block, of which d is the last two; candidates chosen greedily as in affine-inl.h.
struct Six {
  static constexpr int kBytes = 210, kMax = 31, kLanes = 16, kLow = -128, kHigh = 127, kStep = 1, kParts = 1, kRounds = 1;
  using Numbers = Uniform<kMax>;
  static constexpr float kLevels[] = {-32.0f, -31.0f, -30.0f,  -29.0f,  -28.0f,  -27.0f,
                                      -32.5f, -26.0f, -31.75f, -31.25f, -30.75f, -30.25f};
};
struct Three {
  static constexpr int kBytes = 110, kMax = 3, kLanes = 16, kLow = -32, kHigh = 31, kStep = 1, kParts = 1, kRounds = 3;
  using Numbers = Uniform<kMax>;  // coarse scales and their unit move each other
  static constexpr float kLevels[] = {-4.25f, -3.25f, -4.875f, -3.875f, -5.5f, -4.5f, -3.0f, -3.625f, -4.0f, -2.375f, -5.125f, -2.75f};
};
template <class K>
constexpr float kLimit = 65504.0f * K::kHigh * K::kMax;

// The codes of sixteen values of a block, from 0.
template <class K>
inline I32 codes(const float* x, float inv) {
  return to_int(K::Numbers::nearest(load(x) * splat(inv))) + splat_i(K::kMax + 1);
}

// Q6_K's bytes but for d: low and high bits of the codes, the scales.
inline void pack(Six, const float* src, I32 scale, const float* inv, uint8_t* out) {
  store_u8(out + 192, scale);
  const I32 nibble = splat_i(15);
  for (int half = 0; half < 2; ++half)
    for (int part = 0; part < 2; ++part) {  // 16 columns of the 32 that share their high bits
      I32 q[4];
      for (int j = 0; j < 4; ++j) {
        const int block = 8 * half + 2 * j + part;
        q[j] = codes<Six>(src + 16 * block, inv[block]);
      }
      uint8_t* low = out + 64 * half + 16 * part;
      store_u8(low, (q[0] & nibble) | shl<4>(q[2] & nibble));
      store_u8(low + 32, (q[1] & nibble) | shl<4>(q[3] & nibble));
      store_u8(out + 128 + 32 * half + 16 * part,
               shr<4>(q[0]) | shl<2>(shr<4>(q[1])) | shl<4>(shr<4>(q[2])) | shl<6>(shr<4>(q[3])));
    }
}

// Q3_K's: the high bit of codes in 32 bytes, bit j of byte i for value 32 j + i; the low bits as Q2_K has them; scales less -32, four bits in the nibbles of eight
// bytes and two in four more.
inline void pack(Three, const float* src, I32 scale, const float* inv, uint8_t* out) {
  uint8_t s[16];
  store_u8(s, scale + splat_i(32));
  for (int i = 0; i < 8; ++i) out[96 + i] = static_cast<uint8_t>((s[i] & 15) | (s[i + 8] & 15) << 4);
  for (int i = 0; i < 4; ++i) out[104 + i] = static_cast<uint8_t>(s[i] >> 4 | s[i + 4] >> 4 << 2 | s[i + 8] >> 4 << 4 | s[i + 12] >> 4 << 6);
  const I32 two = splat_i(3);
  for (int part = 0; part < 2; ++part) {
    I32 high = splat_i(0);
    for (int half = 1; half >= 0; --half) {
      I32 low = splat_i(0);
      for (int j = 3; j >= 0; --j) {
        const int block = 8 * half + 2 * j + part;
        const I32 q = codes<Three>(src + 16 * block, inv[block]);
        low = shl<2>(low) | (q & two);
        high = shl<1>(high) | shr<2>(q);
      }
      store_u8(out + 32 + 32 * half + 16 * part, low);
    }
    store_u8(out + 16 * part, high);
  }
}

template <class K, bool kWeighted>
inline Scales<K> fit_super(const float* x, const float* importance, Effort effort) {
  Symmetric<16, typename K::Numbers, kWeighted> blocks;
  blocks.read(x, importance, kLimit<K>);
  return fit_scales<K>(blocks, effort);
}

template <class K>
inline void encode(const float* x, int64_t n, int64_t row, const EncodeContext& how, std::byte* out) {
  uint8_t* p = reinterpret_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i += kSuper, p += K::kBytes) {
    const Scales<K> g = how.importance ? fit_super<K, true>(x + i, how.importance + i % row, how.effort) : fit_super<K, false>(x + i, nullptr, how.effort);
    float inv[16];
    store(inv, inverse_or_zero(g.scale * splat(g.d[0])));
    pack(K(), x + i, to_int(g.scale), inv, p);
    g.put(0, p + K::kBytes - 2);
  }
}

void encode_q6_k(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode<Six>(x, r * n, n, how, out); }
void encode_q3_k(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) { encode<Three>(x, r * n, n, how, out); }

void decode_q6_k(const std::byte* in, int64_t n, float* out) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(in);
  const I32 nibble = splat_i(15), two = splat_i(3), offset = splat_i(32);
  for (int64_t i = 0; i < n; i += kSuper, p += Six::kBytes, out += kSuper) {
    uint16_t h[16] = {};
    std::memcpy(h, p + 208, 2);
    float d[16], scale[16];
    store(d, load_f16(h));
    store(scale, splat(d[0]) * to_float(load_i8(reinterpret_cast<const int8_t*>(p + 192))));
    for (int half = 0; half < 2; ++half)
      for (int part = 0; part < 2; ++part) {
        const I32 l0 = load_u8(p + 64 * half + 16 * part), l1 = load_u8(p + 64 * half + 32 + 16 * part);
        const I32 high = load_u8(p + 128 + 32 * half + 16 * part);
        const I32 q[4] = {(l0 & nibble) | shl<4>(high & two), (l1 & nibble) | shl<4>(shr<2>(high) & two),
                          shr<4>(l0) | shl<4>(shr<4>(high) & two), shr<4>(l1) | shl<4>(shr<6>(high))};
        for (int j = 0; j < 4; ++j) {
          const int block = 8 * half + 2 * j + part;
          store(out + 16 * block, splat(scale[block]) * to_float(q[j] - offset));
        }
      }
  }
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {
void enc(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q6_k)(x, r, n, how, out);
}
void enc3(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  INGOT_DISPATCH(encode_q3_k)(x, r, n, how, out);
}
void dec(const std::byte* in, int64_t n, float* out) { INGOT_DISPATCH(decode_q6_k)(in, n, out); }
}  // namespace

extern const Codec kCodecQ3_K, kCodecQ6_K;
const Codec kCodecQ3_K{DType::kQ3_K, 1, enc3, decode_q3_k, false, 65504.0f * 31 * 3};
const Codec kCodecQ6_K{DType::kQ6_K, 1, enc, dec, false, 65504.0f * 127 * 31};

}  // namespace ingot
#endif
