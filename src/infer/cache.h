// The keys and values of one layer for the positions of one sequence, in f32, f16 or q8_0, each of its own type. What attention reads for every token: half as many bytes, or a quarter.
//
// Keys lie in blocks of 16 positions, [block][kv head][element][16], so that one vector holds 16 scores and no sum across lanes is needed; of q8_0 each 32 elements are followed by the sixteen f32
// scales. Values lie [position][kv head][element], padded to 16 elements; of q8_0 an f32 scale before each 32. Rounding is to nearest even; q8_0's scale is the largest magnitude / 127.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ingot {

enum class CacheType { kF32, kF16, kQ8_0 };
struct CacheTypes {
  CacheType keys = CacheType::kF32, values = CacheType::kF32;
};

struct CacheShape {
  CacheTypes types;
  int64_t kv_heads = 0, head_dim = 0;

  int64_t key_bytes() const;    // of 16 positions of one head
  int64_t value_bytes() const;  // of one position of one head
};

struct LayerCache {
  CacheShape shape;
  std::vector<std::byte> keys, values;

  // Room for so many positions. Throws std::bad_alloc or std::length_error.
  void grow(int64_t positions);
  // Keys and values [kv_heads, head_dim] of one position, in place of what is there.
  void put(int64_t position, const float* key, const float* value);
};

// Query heads [queries, head_dim] that share a head of keys, over positions [first, n): out [queries, head_dim]. What is read serves four of them at once; the bits of one do not depend on the others.
// A cap above 0 is soft_cap's, of the scores, for which there is room of attend_floats(n - first), 64-byte aligned.
inline constexpr int kQueriesTogether = 4;
inline int64_t attend_floats(int64_t positions) { return kQueriesTogether * ((positions + 127) / 64 * 64); }
void attend(const LayerCache& cache, const float* queries, int64_t n_queries, int64_t kv_head, int64_t first, int64_t n, float scale, float cap, float* scores, float* out);

}  // namespace ingot
