// The parts of a layer that are not products with weights: norms, gates, rotations, attention over the cache.
#pragma once

#include <cstdint>

namespace ingot {

// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i].
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out);
// out[i] = (x[i] - mean(x)) / sqrt(variance(x) + eps) * weight[i] + bias[i]; without bias where it is null.
void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out);
enum class Activation {
  kSilu,
  kGelu,      // x * Phi(x), by the error function
  kGeluTanh,  // by its approximation with tanh, as GPT-2 has it
};
// gate[i] = activation(gate[i]) * up[i].
void activate_mul(Activation activation, float* gate, const float* up, int64_t n);
// x[i] = activation(x[i]).
void activate(Activation activation, float* x, int64_t n);
// x[i] = cap * tanh(x[i] / cap).
void soft_cap(float* x, int64_t n, float cap);
// x[i] *= factor.
void scale(float* x, int64_t n, float factor);
// out[i] += x[i].
void add(float* out, const float* x, int64_t n);

// Rotates pairs of one head by angles whose cosines and sines are given (n_pairs of each).
void rotate_interleaved(float* head, const float* cos, const float* sin, int64_t n_pairs);
void rotate_halves(float* head, const float* cos, const float* sin, int64_t n_pairs);

// The cache of one layer. Keys lie in blocks of 16 positions, [block][kv head][element][16], so that one
// vector holds 16 scores and no sum across lanes is needed. Values lie [position][kv head][value_stride].
struct CacheView {
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t kv_heads = 0, head_dim = 0;
  int64_t value_stride = 0;  // head_dim rounded up to 16, zeros in the rest
};
inline int64_t key_offset(const CacheView& c, int64_t position, int64_t kv_head) {
  return (position / 16 * c.kv_heads + kv_head) * c.head_dim * 16 + position % 16;
}

// One query head over positions [first, n): out[head_dim]. scores: n - first, and 64 more, rounded up to 64 floats of memory, 64-byte
// aligned. A cap above 0 is soft_cap's, of the scores.
void attend(const CacheView& cache, const float* query, int64_t kv_head, int64_t first, int64_t n, float scale, float cap,
            float* scores, float* out);

}  // namespace ingot
