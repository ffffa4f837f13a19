// Products of packed strips with sixteen tokens at a time by AMX's tiles of int8: the integer sums and f32 operations of packed.cc's other paths, in their order. To be included behind its path for AVX-512
// VNNI, in a region with that target and amx-tile, amx-int8.
#pragma once

namespace ingot {
namespace {

constexpr int kTileBlocks = 8;  // that are unpacked together: they lie in the first-level cache
constexpr int kTileGroups = 8;  // of sixteen tokens that are multiplied with them

// What is unpacked of some blocks: levels [8][16 rows][4 columns], scales as they are multiplied.
struct alignas(64) Unpacked {
  int8_t levels[kTileBlocks][512];
  float w[kTileBlocks][2][16], m[kTileBlocks][2][16];
  int32_t scale[kTileBlocks][2][16];
};

template <class F>
inline void unpack_block(const uint8_t* super, int k, int to, Unpacked* u) {
  const uint8_t *p = super + F::kHeaderBytes + k * F::kBlockBytes, *mins = p + F::kScaleBytes, *codes = mins + F::kMinBytes;
  __m512i table = _mm512_setzero_si512(), c[8];
  if constexpr (F::kTabled) table = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(F::kLevels.data())));
  codes_of_block<F>(codes, table, c);
  const __m512i offset = _mm512_set1_epi8(static_cast<char>(F::kTabled ? 0 : F::kOffset));
  for (int j = 0; j < 8; ++j) _mm512_store_si512(u->levels[to] + 64 * j, _mm512_sub_epi8(c[j], offset));
  const __m512 d = numbers_at<F>(super);
  if constexpr (F::kScaled && !F::kHalves) {
    _mm512_store_ps(u->w[to][0], _mm512_mul_ps(d, _mm512_cvtepi32_ps(sixteen_signed(p))));
  } else {
    _mm512_store_ps(u->w[to][0], d);
  }
  if constexpr (!F::kScaled && F::kHalves) _mm512_store_ps(u->w[to][1], numbers_at<F>(super + F::kNumber));
  if constexpr (F::kScaled && F::kHalves)
    for (int h = 0; h < 2; ++h) _mm512_store_si512(u->scale[to][h], sixteen_signed(p + 16 * h));
  if constexpr (F::kMin) {
    const __m512 m = numbers_at<F>(super + F::kOfMin);
    for (int h = 0; h < (F::kHalves ? 2 : 1); ++h) _mm512_store_ps(u->m[to][h], F::kScaled ? _mm512_mul_ps(m, sixteen_bytes(mins + 16 * h)) : m);
  }
}

// Adds n blocks from `block` on to the sums of a group, acc [16 tokens][16 rows].
template <class F>
inline void add_blocks(const Unpacked& u, int n, int64_t block, int64_t blocks, const Int8Activations& x, int64_t group, float* acc_at) {
  alignas(64) int32_t dots[kTileBlocks][F::kHalves ? 2 : 1][256];
  const int64_t first = group * blocks + block;
  const int8_t* q = x.tiles.data() + first * 512;
  for (int k = 0; k < n; ++k, q += 512) {
    _tile_zero(0);
    _tile_loadd(2, q, 32);
    _tile_loadd(4, u.levels[k], 64);
    _tile_dpbssd(0, 2, 4);
    _tile_stored(0, dots[k][0], 64);
    if constexpr (F::kHalves) {
      _tile_zero(1);
      _tile_loadd(3, q + 16, 32);
      _tile_loadd(5, u.levels[k] + 256, 64);
      _tile_dpbssd(1, 3, 5);
      _tile_stored(1, dots[k][1], 64);
    }
  }
  __m512 acc[16];
  for (int t = 0; t < 16; ++t) acc[t] = _mm512_load_ps(acc_at + 16 * t);
  for (int k = 0; k < n; ++k) {
    const float *dx = x.tile_scale.data() + (first + k) * 16, *sums = x.tile_sums.data() + (first + k) * 48;
    const __m512 w = _mm512_load_ps(u.w[k][0]);
    for (int t = 0; t < 16; ++t) {
      const __m512 dxs = _mm512_set1_ps(dx[t]);
      __m512i dot = _mm512_load_si512(dots[k][0] + 16 * t);
      if constexpr (F::kScaled && F::kHalves)
        dot = _mm512_add_epi32(_mm512_mullo_epi32(dot, _mm512_load_si512(u.scale[k][0])), _mm512_mullo_epi32(_mm512_load_si512(dots[k][1] + 16 * t), _mm512_load_si512(u.scale[k][1])));
      acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(w, dxs), acc[t]);
      if constexpr (!F::kScaled && F::kHalves) acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(dots[k][1] + 16 * t)), _mm512_mul_ps(_mm512_load_ps(u.w[k][1]), dxs), acc[t]);
      if constexpr (F::kMin && !F::kHalves) acc[t] = _mm512_fnmadd_ps(_mm512_load_ps(u.m[k][0]), _mm512_set1_ps(sums[t]), acc[t]);
      if constexpr (F::kMin && F::kHalves)
        for (int h = 0; h < 2; ++h) acc[t] = _mm512_fnmadd_ps(_mm512_load_ps(u.m[k][h]), _mm512_set1_ps(sums[16 * (1 + h) + t]), acc[t]);
    }
  }
  for (int t = 0; t < 16; ++t) _mm512_store_ps(acc_at + 16 * t, acc[t]);
}

// Some groups from `group` on; out [groups][16 tokens][16 rows], 64-byte aligned.
template <class F>
void strip_tiles(const uint8_t* strip, const Int8Activations& x, int64_t group, int groups, float* out) {
  TileConfig config;
  for (const int c : {0, 1}) config.bytes[c] = 64, config.rows[c] = 16;
  for (const int a : {2, 3}) config.bytes[a] = F::kHalves ? 16 : 32, config.rows[a] = 16;
  for (const int b : {4, 5}) config.bytes[b] = 64, config.rows[b] = F::kHalves ? 4 : 8;
  stored_for_tiles();
  _tile_loadconfig(&config);
  Unpacked u;
  std::memset(out, 0, static_cast<size_t>(groups) * 1024);
  const int64_t blocks = x.cols / 32;
  for (int64_t b = 0; b < blocks; b += kTileBlocks) {
    const int n = static_cast<int>(std::min<int64_t>(kTileBlocks, blocks - b));
    for (int k = 0; k < n; ++k) unpack_block<F>(strip + (b + k) / F::kBlocks * F::kSuperBytes, static_cast<int>((b + k) % F::kBlocks), k, &u);
    stored_for_tiles();
    for (int g = 0; g < groups; ++g) add_blocks<F>(u, n, b, blocks, x, group + g, out + g * 256);
  }
  _tile_release();
}

}  // namespace
}  // namespace ingot
