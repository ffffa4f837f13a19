// Norms, gates and rotations, the same bits on every target.
#include "infer/ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#define INGOT_TARGET_FILE "infer/ops.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "kernels/exp-inl.h"

inline F32 load_part(const float* p, int64_t n) {
  float b[16] = {};
  std::memcpy(b, p, static_cast<size_t>(n) * 4);
  return load(b);
}
inline void store_part(float* p, F32 v, int64_t n) {
  float b[16];
  store(b, v);
  std::memcpy(p, b, static_cast<size_t>(n) * 4);
}

void rms_norm_impl(const float* x, const float* weight, int64_t n, float eps, float* out) {
  F32 s = splat(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F32 v = load(x + i);
    s = fma(v, v, s);
  }
  if (i < n) {
    const F32 v = load_part(x + i, n - i);
    s = fma(v, v, s);
  }
  const float inverse = 1.0f / std::sqrt(sum_lanes(s) / static_cast<float>(n) + eps);
  for (i = 0; i + 16 <= n; i += 16) store(out + i, load(x + i) * splat(inverse) * load(weight + i));
  for (; i < n; ++i) out[i] = x[i] * inverse * weight[i];
}

// Sums first, each in lanes of its own; then what is left of the row.
void layer_norm_impl(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out) {
  F32 s = splat(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) s = s + load(x + i);
  if (i < n) s = s + load_part(x + i, n - i);
  const float mean = sum_lanes(s) / static_cast<float>(n);
  F32 q = splat(0.0f);
  for (i = 0; i + 16 <= n; i += 16) {
    const F32 v = load(x + i) - splat(mean);
    q = fma(v, v, q);
  }
  float rest = 0;
  for (; i < n; ++i) rest += (x[i] - mean) * (x[i] - mean);
  const float inverse = 1.0f / std::sqrt((sum_lanes(q) + rest) / static_cast<float>(n) + eps);
  for (i = 0; i + 16 <= n; i += 16) {
    const F32 v = (load(x + i) - splat(mean)) * splat(inverse) * load(weight + i);
    store(out + i, bias ? v + load(bias + i) : v);
  }
  for (; i < n; ++i) out[i] = (x[i] - mean) * inverse * weight[i] + (bias ? bias[i] : 0.0f);
}

inline F32 silu_lanes(F32 g) { return g / (splat(1.0f) + exp_lanes(splat(0.0f) - g)); }
inline F32 tanh_lanes(F32 x) { return splat(1.0f) - splat(2.0f) / (exp_lanes(x + x) + splat(1.0f)); }
inline F32 gelu_tanh_lanes(F32 x) {
  const F32 inner = splat(0.79788456f) * fma(splat(0.044715f) * x * x, x, x);
  return splat(0.5f) * x * (splat(1.0f) + tanh_lanes(inner));
}
inline F32 gelu_lanes(F32 x) {
  float v[16];
  store(v, x);
  for (float& e : v) e = 0.5f * e * (1.0f + std::erf(e * 0.70710678f));
  return load(v);
}

// x = f(x), lanes at a time.
template <class F>
inline void each(float* x, int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(x + i, f(load(x + i)));
  if (i < n) store_part(x + i, f(load_part(x + i, n - i)), n - i);
}
template <class F>
inline void each_mul(float* x, const float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(x + i, f(load(x + i)) * load(y + i));
  if (i < n) store_part(x + i, f(load_part(x + i, n - i)) * load_part(y + i, n - i), n - i);
}

void activate_impl(Activation a, float* x, const float* y, int64_t n) {
  const auto with = [&](auto f) { y ? each_mul(x, y, n, f) : each(x, n, f); };
  switch (a) {
    case Activation::kSilu: return with([](F32 v) { return silu_lanes(v); });
    case Activation::kGelu: return with([](F32 v) { return gelu_lanes(v); });
    case Activation::kGeluTanh: return with([](F32 v) { return gelu_tanh_lanes(v); });
  }
}

void soft_cap_impl(float* x, int64_t n, float cap) {
  const F32 c = splat(cap), inverse = splat(1.0f / cap);
  each(x, n, [&](F32 v) { return c * tanh_lanes(v * inverse); });
}

void scale_impl(float* x, int64_t n, float factor) {
  const F32 f = splat(factor);
  each(x, n, [&](F32 v) { return v * f; });
}

void add_impl(float* out, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, load(out + i) + load(x + i));
  for (; i < n; ++i) out[i] += x[i];
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  INGOT_DISPATCH(rms_norm_impl)(x, weight, n, eps, out);
}
void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out) {
  INGOT_DISPATCH(layer_norm_impl)(x, weight, bias, n, eps, out);
}
void activate_mul(Activation a, float* gate, const float* up, int64_t n) { INGOT_DISPATCH(activate_impl)(a, gate, up, n); }
void activate(Activation a, float* x, int64_t n) { INGOT_DISPATCH(activate_impl)(a, x, nullptr, n); }
void soft_cap(float* x, int64_t n, float cap) { INGOT_DISPATCH(soft_cap_impl)(x, n, cap); }
void scale(float* x, int64_t n, float factor) { INGOT_DISPATCH(scale_impl)(x, n, factor); }
void add(float* out, const float* x, int64_t n) { INGOT_DISPATCH(add_impl)(out, x, n); }

void rotate_interleaved(float* head, const float* cos, const float* sin, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}
void rotate_halves(float* head, const float* cos, const float* sin, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float a = head[i], b = head[i + n_pairs];
    head[i] = a * cos[i] - b * sin[i];
    head[i + n_pairs] = b * cos[i] + a * sin[i];
  }
}

}  // namespace ingot
#endif
