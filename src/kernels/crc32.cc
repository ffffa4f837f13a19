// CRC-32: sixteen tables a step on any machine; where it multiplies without carries, four sums of 128 bits are folded over each other (Gopal et al., "Fast
// CRC Computation for Generic Polynomials Using PCLMULQDQ", Intel 2009) and what is left goes through the tables.
#include "kernels/crc32.h"

#include <array>
#include <cstring>

#include "kernels/dispatch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ingot {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;

// Polynomials over GF(2) modulo the CRC's, reflected: the highest bit is x^0.
constexpr uint32_t times(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (; a; a <<= 1) {
    if (a >> 31) product ^= b;
    b = b & 1 ? b >> 1 ^ kPolynomial : b >> 1;
  }
  return product;
}

// x^n
constexpr uint32_t power(uint64_t n) {
  uint32_t result = 1u << 31, square = 1u << 30;
  for (; n; n >>= 1, square = times(square, square))
    if (n & 1) result = times(result, square);
  return result;
}

using Tables = std::array<std::array<uint32_t, 256>, 16>;
constexpr Tables make_tables() {
  Tables t{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ kPolynomial : c >> 1;
    t[0][i] = c;
  }
  for (size_t k = 1; k < t.size(); ++k)
    for (size_t i = 0; i < 256; ++i) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 255];
  return t;
}
constexpr Tables kTables = make_tables();

// The state without the inversions at both ends.
uint32_t by_tables(uint32_t state, const std::byte* p, size_t n) {
  for (; n >= 16; p += 16, n -= 16) {
    uint32_t next = 0;
    for (size_t i = 0; i < 16; ++i) {
      const uint32_t byte = std::to_integer<uint32_t>(p[i]) ^ (i < 4 ? state >> (8 * i) & 255 : 0);
      next ^= kTables[15 - i][byte];
    }
    state = next;
  }
  for (; n; ++p, --n) state = state >> 8 ^ kTables[0][(state ^ std::to_integer<uint32_t>(*p)) & 255];
  return state;
}

#if defined(__x86_64__)

constexpr int64_t factor(uint64_t n) { return static_cast<int64_t>(uint64_t{power(n)} << 1); }
static_assert(factor(4 * 128 + 32) == 0x154442bd4 && factor(128 - 32) == 0x0ccaa009e);  // as the paper prints them

__attribute__((target("pclmul,sse2"))) __m128i fold(__m128i sum, __m128i by, __m128i next) {
  return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(sum, by, 0x00), _mm_clmulepi64_si128(sum, by, 0x11)));
}

// At least 64 bytes, a multiple of 16.
__attribute__((target("pclmul,sse2"))) uint32_t by_folding(uint32_t state, const std::byte* p, size_t n) {
  const auto load = [&](size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i); };
  __m128i sum[4] = {_mm_xor_si128(load(0), _mm_cvtsi32_si128(static_cast<int>(state))), load(1), load(2), load(3)};
  const __m128i by4 = _mm_set_epi64x(factor(4 * 128 - 32), factor(4 * 128 + 32)), by1 = _mm_set_epi64x(factor(128 - 32), factor(128 + 32));
  for (p += 64, n -= 64; n >= 64; p += 64, n -= 64)
    for (size_t i = 0; i < 4; ++i) sum[i] = fold(sum[i], by4, load(i));
  for (size_t i = 1; i < 4; ++i) sum[0] = fold(sum[0], by1, sum[i]);
  for (; n; p += 16, n -= 16) sum[0] = fold(sum[0], by1, load(0));
  std::byte rest[16];
  std::memcpy(rest, &sum[0], 16);
  return by_tables(0, rest, 16);
}

bool folds() {
  static const bool has = __builtin_cpu_supports("pclmul");
  return has && active_target() != Target::kScalar;
}

#endif

}  // namespace

uint32_t crc32(ByteView bytes, uint32_t before) {
  uint32_t state = ~before;
  size_t done = 0;
#if defined(__x86_64__)
  if (bytes.size() >= 64 && folds()) {
    done = bytes.size() / 16 * 16;
    state = by_folding(state, bytes.data(), done);
  }
#endif
  return ~by_tables(state, bytes.data() + done, bytes.size() - done);
}

uint32_t crc32_joined(uint32_t a, uint32_t b, uint64_t size) { return times(power(8 * size), a) ^ b; }

}  // namespace ingot
