#include "infer/bf16_tiles.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#define INGOT_TILES 1
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
constexpr int64_t kChunk = 256;                  // columns that are multiplied before the next ones: those of 32 tokens and 32 rows lie in the first-level cache
constexpr int64_t kTokens = 32;                  // that are multiplied together: two tiles

int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int parts_of(DType type) { return type == DType::kBF16 ? 1 : 2; }

}  // namespace

// Of a share: its weights as tiles, the same as f32 on the way there, and its sums [32 tokens][32 rows][4 tiles].
struct Work {
  int64_t weights, floats, sums;
};
static Work work_of(const WeightMatrix& w, int64_t tokens) {
  const int64_t columns = std::min(up_to(w.cols, kColumns), kChunk);
  return {kTileShare * columns * 2 * parts_of(w.type), kRows * columns * 4, up_to(tokens, kTokens) * kTileShare * 4};
}

int64_t tile_work_bytes(const WeightMatrix& w, int64_t tokens) {
  const Work b = work_of(w, tokens);
  return b.weights + b.floats + b.sums;
}

#if defined(INGOT_TILES)

}  // namespace ingot

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
#endif
namespace ingot {
namespace {

// Sixteen numbers in two parts, the low one of what the high one leaves; each rounded to nearest even. What is finite stays so.
struct Parts {
  __m256i high, low;
};
inline __m256i bf16_of(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), exponent = _mm512_set1_epi32(0x7f800000);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  // Beyond the greatest number, and of what was none: cut. NaN keeps a bit that says so.
  const __mmask16 beyond = _mm512_cmpeq_epi32_mask(_mm512_and_si512(rounded, exponent), exponent) | _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, exponent), exponent);
  rounded = _mm512_mask_mov_epi32(rounded, beyond, bits);
  rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
inline Parts split16(__m512 x) {
  Parts p;
  p.high = bf16_of(x);
  const __m512 rest = _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(p.high), 16)));
  p.low = bf16_of(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(rest, rest, _CMP_ORD_Q), rest));  // what is infinite, or no number, leaves nothing
  return p;
}
inline __m512 some_of(const float* x, int64_t n) { return n >= 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << n) - 1), x); }

void split_row(const float* x, int64_t n, uint16_t* high, uint16_t* low) {
  for (int64_t i = 0; i < n; i += 16) {
    const Parts p = split16(some_of(x + i, n - i));
    const auto there = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1 << (n - i)) - 1);
    _mm256_mask_storeu_epi16(high + i, there, p.high);
    _mm256_mask_storeu_epi16(low + i, there, p.low);
  }
}

// Token t of activations into its tiles; zeros behind its columns, and of a token that is none (null).
void split_token(const float* x, int64_t t, Bf16Activations* a) {
  const int64_t at = t / 16 * a->stride * 16 + t % 16 * 32;
  for (int64_t c = 0; c < a->stride; c += 16) {
    const Parts p = split16(x && c < a->cols ? some_of(x + c, a->cols - c) : _mm512_setzero_ps());
    const int64_t to = at + c / 32 * 512 + c % 32;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a->high.data() + to), p.high);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a->low.data() + to), p.low);
  }
}

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
void add_products(const std::byte* high, const std::byte* low, int64_t second, const std::byte* a, const std::byte* b, int64_t steps) {
  for (int64_t s = 0; s < steps; ++s, high += 1024, low += 1024, a += 1024 * kParts, b += 1024 * kParts) {
    _tile_loadd(4, low, 64);
    _tile_loadd(5, low + second, 64);
    _tile_loadd(6, a, 64);
    _tile_loadd(7, b, 64);
    add_four();
    _tile_loadd(4, high, 64);
    _tile_loadd(5, high + second, 64);
    add_four();
    if constexpr (kParts == 2) {
      _tile_loadd(6, a + 1024, 64);
      _tile_loadd(7, b + 1024, 64);
      add_four();
    }
  }
}

}  // namespace

void Bf16Activations::split(ThreadPool& pool, const float* x, int64_t n, int64_t width) {
  tokens = n, cols = width, stride = up_to(width, kColumns);
  const int64_t rows = up_to(n, kTokens);
  high.resize(static_cast<size_t>(rows * stride));
  low.resize(high.size());
  const auto one = [&](int64_t t) { split_token(t < n ? x + t * width : nullptr, t, this); };
  if (n < 8)
    for (int64_t t = 0; t < rows; ++t) one(t);
  else
    pool.parallel_for(rows, one);
}

void multiply_by_tiles(const WeightMatrix& w, int64_t first, int64_t n, const Bf16Activations& x, std::byte* work, float* y) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) config.bytes[i] = 64, config.rows[i] = 16;
  stored_for_tiles();
  _tile_loadconfig(&config);
  const int parts = parts_of(w.type);
  const int64_t strips = up_to(n, 32) / kRows, second = x.stride * 32;  // bytes to the next sixteen tokens
  const Work bytes = work_of(w, x.tokens);
  auto* floats = reinterpret_cast<float*>(work + bytes.weights);
  auto* sums = reinterpret_cast<float*>(work + bytes.weights + bytes.floats);
  for (int64_t k = 0; k < x.stride; k += kChunk) {
    const int64_t columns = std::min(kChunk, x.stride - k), strip_bytes = columns * kRows * 2 * parts;
    for (int64_t s = 0; s < strips; ++s) put_tiles(w, first + s * kRows, k, columns, floats, work + s * strip_bytes);
    stored_for_tiles();
    float* c = sums;
    for (int64_t t = 0; t < x.tokens; t += kTokens) {
      const auto* high = reinterpret_cast<const std::byte*>(x.high.data() + t * x.stride + k * 16);
      const auto* low = reinterpret_cast<const std::byte*>(x.low.data() + t * x.stride + k * 16);
      for (int64_t s = 0; s < strips; s += 2, c += 1024) {
        if (k == 0) {
          _tile_zero(0);
          _tile_zero(1);
          _tile_zero(2);
          _tile_zero(3);
        } else {
          _tile_loadd(0, c, 64);
          _tile_loadd(1, c + 256, 64);
          _tile_loadd(2, c + 512, 64);
          _tile_loadd(3, c + 768, 64);
        }
        const std::byte* a = work + s * strip_bytes;
        if (parts == 1) add_products<1>(high, low, second, a, a + strip_bytes, columns / kColumns);
        else add_products<2>(high, low, second, a, a + strip_bytes, columns / kColumns);
        _tile_stored(0, c, 64);
        _tile_stored(1, c + 256, 64);
        _tile_stored(2, c + 512, 64);
        _tile_stored(3, c + 768, 64);
      }
    }
  }
  _tile_release();
  for (int64_t t = 0; t < x.tokens; ++t)
    for (int64_t s = 0; s < strips; ++s) {
      const int64_t row = first + s * kRows, rows = std::min(kRows, w.rows - row);
      const float* c = sums + (t / kTokens * (strips / 2) + s / 2) * 1024 + (t % kTokens / 16 * 2 + s % 2) * 256 + t % 16 * 16;
      if (rows > 0) std::memcpy(y + t * w.rows + row, c, static_cast<size_t>(rows) * 4);
    }
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

void Bf16Activations::split(ThreadPool&, const float*, int64_t, int64_t) {}
void multiply_by_tiles(const WeightMatrix&, int64_t, int64_t, const Bf16Activations&, std::byte*, float*) {}

#endif

bool can_multiply_by_tiles(DType type) { return machine_has_bf16_tiles() && (type == DType::kF32 || type == DType::kF16 || type == DType::kBF16); }

}  // namespace ingot
