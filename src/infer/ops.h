// The parts of a layer that are not products with weights: norms, gates, rotations. Attention: cache.h.
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

}  // namespace ingot
