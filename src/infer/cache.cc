// The cache, and attention over it: the same bits on every target.
#include "infer/cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "infer/ops.h"
#include "kernels/cast.h"

#define INGOT_TARGET_FILE "infer/cache.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "kernels/exp-inl.h"

// What keys and values of a type are read by. kGroup: elements that share a scale, 0 where there is none.
struct AsF32 {
  static constexpr int64_t kBytes = 4, kGroup = 0;
  static inline F32 get(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct AsF16 {
  static constexpr int64_t kBytes = 2, kGroup = 0;
  static inline F32 get(const std::byte* p) { return load_f16(p); }
};
struct AsQ8 {
  static constexpr int64_t kGroup = 32;
  static inline F32 get(const std::byte* p) { return to_float(load_i8(reinterpret_cast<const int8_t*>(p))); }
};

// Scores of kQ queries [d] with kBlocks blocks of 16 positions, `out` apart by `apart`: what is read of the cache serves all of them. Each score is one sum over the elements in their order.
template <class K, int kQ, int kBlocks>
inline void score_blocks(const std::byte* keys, int64_t block_stride, const float* q, int64_t d, F32 scale, float* out, int64_t apart) {
  F32 acc[kQ][kBlocks];
  for (auto& row : acc)
    for (F32& a : row) a = splat(0.0f);
  const auto add = [&](F32 (&to)[kQ][kBlocks], const std::byte* k, int64_t step, int64_t begin, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      F32 ki[kBlocks];
      for (int b = 0; b < kBlocks; ++b) ki[b] = K::get(k + b * block_stride + i * step);
      for (int h = 0; h < kQ; ++h) {
        const F32 qi = splat(q[h * d + begin + i]);
        for (int b = 0; b < kBlocks; ++b) to[h][b] = fma(qi, ki[b], to[h][b]);
      }
    }
  };
  if constexpr (K::kGroup == 0) {
    add(acc, keys, 16 * K::kBytes, 0, d);
  } else {
    for (int64_t g = 0; g < d; g += K::kGroup, keys += K::kGroup * 16 + 64) {
      F32 sum[kQ][kBlocks];
      for (auto& row : sum)
        for (F32& a : row) a = splat(0.0f);
      add(sum, keys, 16, g, std::min(K::kGroup, d - g));
      for (int b = 0; b < kBlocks; ++b) {
        const F32 scales = load(reinterpret_cast<const float*>(keys + b * block_stride + K::kGroup * 16));
        for (int h = 0; h < kQ; ++h) acc[h][b] = fma(sum[h][b], scales, acc[h][b]);
      }
    }
  }
  for (int h = 0; h < kQ; ++h)
    for (int b = 0; b < kBlocks; ++b) store(out + h * apart + b * 16, acc[h][b] * scale);
}

inline float scale_at(const std::byte* p) {
  float f;
  std::memcpy(&f, p, 4);
  return f;
}

// Elements from `at` on, 16 * kParts of them, weighed by kQ rows of p over n positions; out [kQ][d].
template <class V, int kQ, int kParts>
inline void weigh_values(const std::byte* values, int64_t stride, int64_t at, const float* p, int64_t apart, int64_t n, const float* inverse, float* out, int64_t d) {
  F32 acc[kQ][kParts];
  for (auto& row : acc)
    for (F32& a : row) a = splat(0.0f);
  for (int64_t k = 0; k < n; ++k, values += stride) {
    F32 v[kParts];
    float scales[kParts];
    for (int i = 0; i < kParts; ++i) {
      if constexpr (V::kGroup == 0) {
        v[i] = V::get(values + (at + 16 * i) * V::kBytes);
      } else {
        const std::byte* group = values + (at + 16 * i) / V::kGroup * (V::kGroup + 4);
        scales[i] = scale_at(group);
        v[i] = V::get(group + 4 + (at + 16 * i) % V::kGroup);
      }
    }
    for (int h = 0; h < kQ; ++h)
      for (int i = 0; i < kParts; ++i) acc[h][i] = fma(splat(V::kGroup == 0 ? p[h * apart + k] : p[h * apart + k] * scales[i]), v[i], acc[h][i]);
  }
  for (int h = 0; h < kQ; ++h)
    for (int i = 0; i < kParts; ++i) {
      const F32 y = acc[h][i] * splat(inverse[h]);
      if (at + 16 * i + 16 <= d) {
        store(out + h * d + at + 16 * i, y);
      } else {
        float part[16];
        store(part, y);
        std::memcpy(out + h * d + at + 16 * i, part, static_cast<size_t>(d - at - 16 * i) * 4);
      }
    }
}

// Blocks, or sixteens of elements, whose sums are in registers together.
template <int kQ>
constexpr int kAtOnce = INGOT_TARGET_ID == 2 || kQ == 1 ? 4 : 1;

template <class K, int kQ>
void score(const LayerCache& c, const float* query, int64_t kv_head, int64_t first, int64_t blocks, float scale, float* scores) {
  const int64_t d = c.shape.head_dim, bytes = c.shape.key_bytes(), stride = c.shape.kv_heads * bytes;
  const std::byte* keys = c.keys.data() + kv_head * bytes + first * stride;
  const F32 s = splat(scale);
  int64_t b = 0;
  for (; b + kAtOnce<kQ> <= blocks; b += kAtOnce<kQ>) score_blocks<K, kQ, kAtOnce<kQ>>(keys + b * stride, stride, query, d, s, scores + b * 16, blocks * 16);
  for (; b < blocks; ++b) score_blocks<K, kQ, 1>(keys + b * stride, stride, query, d, s, scores + b * 16, blocks * 16);
}

template <class V, int kQ>
void weigh(const LayerCache& c, int64_t kv_head, int64_t begin, int64_t count, const float* p, int64_t apart, const float* inverse, float* out) {
  const int64_t d = c.shape.head_dim, bytes = c.shape.value_bytes(), stride = c.shape.kv_heads * bytes;
  const std::byte* values = c.values.data() + kv_head * bytes + begin * stride;
  int64_t i = 0;
  for (; i + 16 * kAtOnce<kQ> <= d; i += 16 * kAtOnce<kQ>) weigh_values<V, kQ, kAtOnce<kQ>>(values, stride, i, p, apart, count, inverse, out, d);
  for (; i < d; i += 16) weigh_values<V, kQ, 1>(values, stride, i, p, apart, count, inverse, out, d);
}

template <int kQ>
void attend_some(const LayerCache& c, const float* query, int64_t kv_head, int64_t begin, int64_t n, float scale, float cap, float* scores, float* out) {
  const int64_t first = begin / 16, blocks = (n + 15) / 16 - first, apart = blocks * 16;  // scores are counted from the first block
  switch (c.shape.types.keys) {
    case CacheType::kF16: score<AsF16, kQ>(c, query, kv_head, first, blocks, scale, scores); break;
    case CacheType::kQ8_0: score<AsQ8, kQ>(c, query, kv_head, first, blocks, scale, scores); break;
    default: score<AsF32, kQ>(c, query, kv_head, first, blocks, scale, scores);
  }
  if (cap > 0) soft_cap(scores, kQ * apart, cap);
  const int64_t skipped = begin - first * 16;
  float inverse[kQ];
  for (int h = 0; h < kQ; ++h) {
    float* row = scores + h * apart;
    for (int64_t i = 0; i < skipped; ++i) row[i] = -std::numeric_limits<float>::infinity();
    for (int64_t i = n - first * 16; i < apart; ++i) row[i] = -std::numeric_limits<float>::infinity();
    F32 top = load(row);
    for (int64_t b = 1; b < blocks; ++b) top = max(top, load(row + b * 16));
    float lanes[16];
    store(lanes, top);
    const F32 m = splat(*std::max_element(lanes, lanes + 16));
    F32 sum = splat(0.0f);
    for (int64_t b = 0; b < blocks; ++b) {
      const F32 e = exp_lanes(load(row + b * 16) - m);
      store(row + b * 16, e);
      sum = sum + e;
    }
    inverse[h] = 1.0f / sum_lanes(sum);
  }
  const float* p = scores + skipped;
  switch (c.shape.types.values) {
    case CacheType::kF16: weigh<AsF16, kQ>(c, kv_head, begin, n - begin, p, apart, inverse, out); break;
    case CacheType::kQ8_0: weigh<AsQ8, kQ>(c, kv_head, begin, n - begin, p, apart, inverse, out); break;
    default: weigh<AsF32, kQ>(c, kv_head, begin, n - begin, p, apart, inverse, out);
  }
}

void attend_impl(const LayerCache& c, const float* queries, int64_t n_queries, int64_t kv_head, int64_t begin, int64_t n, float scale, float cap, float* scores, float* out) {
  const int64_t d = c.shape.head_dim;
  for (; n_queries >= kQueriesTogether; n_queries -= kQueriesTogether, queries += kQueriesTogether * d, out += kQueriesTogether * d) attend_some<kQueriesTogether>(c, queries, kv_head, begin, n, scale, cap, scores, out);
  for (; n_queries > 0; --n_queries, queries += d, out += d) attend_some<1>(c, queries, kv_head, begin, n, scale, cap, scores, out);
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {

constexpr int64_t kGroup = 32;

int64_t groups(int64_t head_dim) { return (head_dim + kGroup - 1) / kGroup; }

// Some elements as f16: what is finite stays so.
void put_f16(const float* x, int64_t n, uint16_t* out) {
  float within[16];
  for (int64_t i = 0; i < n; ++i) within[i] = std::isfinite(x[i]) ? std::clamp(x[i], -65504.0f, 65504.0f) : x[i];
  f32_to_f16(within, n, out);
}

// Some elements as q8_0, `step` bytes from one to the next; the scale.
float put_q8(const float* x, int64_t n, std::byte* out, int64_t step) {
  float top = 0, poison = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, std::fabs(x[i])), poison += x[i] * 0.0f;  // NaN where one is not finite
  const float scale = top / 127 + poison, inverse = std::isfinite(scale) && scale > 0 && std::isfinite(1 / scale) ? 1 / scale : 0;
  for (int64_t i = 0; i < n; ++i) out[i * step] = static_cast<std::byte>(static_cast<int8_t>(inverse > 0 ? std::clamp(std::nearbyintf(x[i] * inverse), -127.0f, 127.0f) : 0.0f));
  return scale;
}

}  // namespace

int64_t CacheShape::key_bytes() const {
  if (types.keys == CacheType::kQ8_0) return groups(head_dim) * (kGroup * 16 + 64);
  return head_dim * 16 * (types.keys == CacheType::kF16 ? 2 : 4);
}

int64_t CacheShape::value_bytes() const {
  if (types.values == CacheType::kQ8_0) return groups(head_dim) * (kGroup + 4);
  return (head_dim + 15) / 16 * 16 * (types.values == CacheType::kF16 ? 2 : 4);
}

void LayerCache::grow(int64_t positions) {
  const int64_t blocks = (positions + 15) / 16;
  keys.resize(static_cast<size_t>(blocks * shape.kv_heads * shape.key_bytes()));
  values.resize(static_cast<size_t>(blocks * 16 * shape.kv_heads * shape.value_bytes()));
}

void LayerCache::put(int64_t position, const float* key, const float* value) {
  const int64_t d = shape.head_dim, key_bytes = shape.key_bytes(), value_bytes = shape.value_bytes(), lane = position % 16;
  for (int64_t h = 0; h < shape.kv_heads; ++h, key += d, value += d) {
    std::byte* k = keys.data() + (position / 16 * shape.kv_heads + h) * key_bytes;
    std::byte* v = values.data() + (position * shape.kv_heads + h) * value_bytes;
    uint16_t half[16];
    switch (shape.types.keys) {
      case CacheType::kF16:
        for (int64_t i = 0; i < d; i += 16) {
          const int64_t n = std::min<int64_t>(16, d - i);
          put_f16(key + i, n, half);
          for (int64_t e = 0; e < n; ++e) std::memcpy(k + ((i + e) * 16 + lane) * 2, half + e, 2);
        }
        break;
      case CacheType::kQ8_0:
        for (int64_t g = 0; g < d; g += kGroup, k += kGroup * 16 + 64) {
          const float scale = put_q8(key + g, std::min(kGroup, d - g), k + lane, 16);
          std::memcpy(k + kGroup * 16 + lane * 4, &scale, 4);
        }
        break;
      default:
        for (int64_t e = 0; e < d; ++e) std::memcpy(k + (e * 16 + lane) * 4, key + e, 4);
    }
    switch (shape.types.values) {
      case CacheType::kF16: {
        for (int64_t i = 0; i < d; i += 16) {
          const int64_t n = std::min<int64_t>(16, d - i);
          put_f16(value + i, n, half);
          std::memcpy(v + i * 2, half, static_cast<size_t>(n) * 2);
        }
        break;
      }
      case CacheType::kQ8_0:
        for (int64_t g = 0; g < d; g += kGroup, v += kGroup + 4) {
          const float scale = put_q8(value + g, std::min(kGroup, d - g), v + 4, 1);
          std::memcpy(v, &scale, 4);
        }
        break;
      default: std::memcpy(v, value, static_cast<size_t>(d) * 4);
    }
  }
}

void attend(const LayerCache& cache, const float* queries, int64_t n_queries, int64_t kv_head, int64_t first, int64_t n, float scale, float cap, float* scores, float* out) {
  INGOT_DISPATCH(attend_impl)(cache, queries, n_queries, kv_head, first, n, scale, cap, scores, out);
}

}  // namespace ingot
#endif
