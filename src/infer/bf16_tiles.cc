#include "infer/bf16_tiles.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/dispatch.h"

#if defined(__x86_64__) && defined(__linux__)
#define INGOT_TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace ingot {
namespace {

constexpr int64_t kRows = 16, kColumns = 32;     // of a tile of weights
constexpr int64_t kTileNumbers = kRows * kColumns;
constexpr int64_t kChunk = 1024;                 // columns that are multiplied before the next ones: what they need stays in the second-level cache
constexpr int64_t kTokens = 32;                  // that are multiplied together: two tiles

int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// To nearest even; what is finite stays so.
uint16_t bf16_of(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  if ((bits & 0x7f800000) == 0x7f800000) return static_cast<uint16_t>(bits >> 16 | (bits & 0x007fffff ? 0x40 : 0));  // infinite; NaN stays one
  return static_cast<uint16_t>((rounded & 0x7f800000) == 0x7f800000 ? bits >> 16 : rounded >> 16);
}
float float_of(uint16_t b) { return std::bit_cast<float>(static_cast<uint32_t>(b) << 16); }

void split_row(const float* x, int64_t n, uint16_t* high, uint16_t* low) {
  for (int64_t i = 0; i < n; ++i) {
    high[i] = bf16_of(x[i]);
    low[i] = std::isfinite(x[i]) ? bf16_of(x[i] - float_of(high[i])) : uint16_t{0};
  }
}

int parts_of(DType type) { return type == DType::kBF16 ? 1 : 2; }

}  // namespace

void Bf16Activations::split(ThreadPool& pool, const float* x, int64_t n, int64_t width) {
  tokens = n, cols = width, stride = up_to(width, kColumns);
  const auto size = static_cast<size_t>(up_to(n, kTokens) * stride);
  high.assign(size, 0);
  low.assign(size, 0);
  const auto one = [&](int64_t t) { split_row(x + t * width, width, high.data() + t * stride, low.data() + t * stride); };
  if (n < 8)
    for (int64_t t = 0; t < n; ++t) one(t);
  else
    pool.parallel_for(n, one);
}

int64_t tile_work_bytes(const WeightMatrix& w) {
  const int64_t columns = std::min(up_to(w.cols, kColumns), kChunk);
  return kTileShare * columns * 2 * parts_of(w.type) + kRows * columns * 4 + 2 * kTokens * kRows * 4;
}

#if defined(INGOT_TILES)

bool machine_has_bf16_tiles() {
  static const bool has = [] {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return false;
    uint32_t a = 0, b = 0, c = 0, d = 0;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    if (!(d >> 22 & 1) || !(d >> 24 & 1)) return false;  // AMX-BF16, AMX-TILE
    constexpr long kRequest = 0x1023, kTileData = 18;    // ARCH_REQ_XCOMP_PERM: the system keeps the tiles of a thread for who asks once
    return ::syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return has && active_target() == Target::kAvx512;
}

}  // namespace ingot

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
#endif
namespace ingot {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Sixteen rows of sixteen words, turned.
inline void transpose(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]), t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]), r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]), r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88), t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88), t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 8; ++i) r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88), r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
}

// bf16 numbers of sixteen rows, `stride` bytes apart, as a tile: pairs of columns, and of a pair the rows.
inline void put_tile(const std::byte* rows, int64_t stride, std::byte* tile) {
  __m512i r[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(rows + i * stride);
  transpose(r);
  for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + 64 * i, r[i]);
}

// Columns [k, k + columns) of sixteen rows from `row` on as tiles, [columns / 32][parts]; zeros where the matrix has none. `floats` has room for them.
void put_tiles(const WeightMatrix& w, int64_t row, int64_t k, int64_t columns, float* floats, std::byte* tiles) {
  const int parts = parts_of(w.type);
  const int64_t there = std::min(columns, w.cols - k), rows = std::clamp<int64_t>(w.rows - row, 0, kRows), steps = columns / kColumns;
  if (w.type == DType::kBF16 && rows == kRows && there == columns) {
    for (int64_t s = 0; s < steps; ++s) put_tile(w.row(row) + (k + s * kColumns) * 2, static_cast<int64_t>(w.row_bytes), tiles + s * 1024);
    return;
  }
  // As f32 first, which is cut into parts in place: a row of highs, then one of lows.
  auto* split = reinterpret_cast<uint16_t*>(floats);
  std::memset(split, 0, static_cast<size_t>(kRows * columns * 4));
  const auto width = static_cast<int64_t>(info(w.type).bytes);
  float some[256];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t at = 0; at < there; at += 256) {
      const int64_t n = std::min<int64_t>(256, there - at);
      w.decode(w.row(row + r) + (k + at) * width, n, some);
      uint16_t* high = split + r * 2 * columns + at;
      split_row(some, n, high, high + columns);
    }
  for (int64_t s = 0; s < steps; ++s)
    for (int p = 0; p < parts; ++p) put_tile(reinterpret_cast<const std::byte*>(split + p * columns + s * kColumns), columns * 4, tiles + (s * parts + p) * 1024);
}

inline void add_four() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
// Tiles 0 to 3 are sums of 32 tokens (two tiles of 16) and 32 rows, [tokens][rows]; 4 and 5 activations, 6 and 7 weights. Each step adds what matters of the products of parts.
template <int kParts>
void add_products(const std::byte* high, const std::byte* low, int64_t stride, const std::byte* a, const std::byte* b, int64_t steps) {
  for (int64_t s = 0; s < steps; ++s, high += 64, low += 64, a += 1024 * kParts, b += 1024 * kParts) {
    _tile_loadd(4, low, stride);
    _tile_loadd(5, low + 16 * stride, stride);
    _tile_loadd(6, a, 64);
    _tile_loadd(7, b, 64);
    add_four();
    _tile_loadd(4, high, stride);
    _tile_loadd(5, high + 16 * stride, stride);
    add_four();
    if constexpr (kParts == 2) {
      _tile_loadd(6, a + 1024, 64);
      _tile_loadd(7, b + 1024, 64);
      add_four();
    }
  }
}

// The sums of 32 tokens from t on and 32 rows from r on, between y and `buffer`, where not all of them are there.
void exchange(float* buffer, float* y, int64_t width, int64_t tokens, int64_t rows, bool out) {
  for (int64_t t = 0; t < tokens; ++t) {
    if (out) std::memcpy(y + t * width, buffer + t * 32, static_cast<size_t>(rows) * 4);
    else std::memcpy(buffer + t * 32, y + t * width, static_cast<size_t>(rows) * 4);
  }
}

}  // namespace

void multiply_by_tiles(const WeightMatrix& w, int64_t first, int64_t n, const Bf16Activations& x, std::byte* work, float* y) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) config.bytes[i] = 64, config.rows[i] = 16;
  _tile_loadconfig(&config);
  const int parts = parts_of(w.type);
  const int64_t chunk = std::min(x.stride, kChunk), strips = up_to(n, 32) / kRows, bytes = x.stride * 2;
  auto* buffer = reinterpret_cast<float*>(work + kTileShare * chunk * 2 * parts);
  float* floats = buffer + 2 * kTokens * kRows;
  for (int64_t k = 0; k < x.stride; k += kChunk) {
    const int64_t columns = std::min(kChunk, x.stride - k), strip_bytes = columns * kRows * 2 * parts;
    for (int64_t s = 0; s < strips; ++s) put_tiles(w, first + s * kRows, k, columns, floats, work + s * strip_bytes);
    for (int64_t t = 0; t < x.tokens; t += kTokens)
      for (int64_t s = 0; s < strips; s += 2) {
        const int64_t row = first + s * kRows, rows = std::min<int64_t>(32, w.rows - row), tokens = std::min(kTokens, x.tokens - t);
        float* to = y + t * w.rows + row;
        const bool whole = rows == 32 && tokens == kTokens;
        float* sums = whole ? to : buffer;
        const int64_t stride = (whole ? w.rows : 32) * 4;
        if (k == 0) {
          _tile_zero(0);
          _tile_zero(1);
          _tile_zero(2);
          _tile_zero(3);
        } else {
          if (!whole) exchange(buffer, to, w.rows, tokens, rows, false);
          _tile_loadd(0, sums, stride);
          _tile_loadd(1, sums + 16, stride);
          _tile_loadd(2, sums + stride * 4, stride);
          _tile_loadd(3, sums + stride * 4 + 16, stride);
        }
        const auto* high = reinterpret_cast<const std::byte*>(x.high.data() + t * x.stride + k);
        const auto* low = reinterpret_cast<const std::byte*>(x.low.data() + t * x.stride + k);
        const std::byte* a = work + s * strip_bytes;
        if (parts == 1) add_products<1>(high, low, bytes, a, a + strip_bytes, columns / kColumns);
        else add_products<2>(high, low, bytes, a, a + strip_bytes, columns / kColumns);
        _tile_stored(0, sums, stride);
        _tile_stored(1, sums + 16, stride);
        _tile_stored(2, sums + stride * 4, stride);
        _tile_stored(3, sums + stride * 4 + 16, stride);
        if (!whole) exchange(buffer, to, w.rows, tokens, rows, true);
      }
  }
  _tile_release();
}

}  // namespace ingot
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#pragma GCC diagnostic pop
#endif
namespace ingot {

#else

bool machine_has_bf16_tiles() { return false; }
void multiply_by_tiles(const WeightMatrix&, int64_t, int64_t, const Bf16Activations&, std::byte*, float*) {}

#endif

bool can_multiply_by_tiles(DType type) { return machine_has_bf16_tiles() && (type == DType::kF32 || type == DType::kF16 || type == DType::kBF16); }

}  // namespace ingot
