// Softmax denominators and divergences, in f32 lanes with compensated sums; what f32 cannot hold (infinities, logits beyond its exponents) in f64, one by one.
#include "kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#define INGOT_TARGET_FILE "kernels/softmax.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

#include "kernels/exp-inl.h"

// Kahan's sum in each lane: `lost` is what `sum` has too much.
struct Total {
  F32 sum, lost;
};
inline void add_to(Total* t, F32 x) {
  const F32 y = x - t->lost, next = t->sum + y;
  t->lost = (next - t->sum) - y;
  t->sum = next;
}
inline double value_of(const Total& t) {
  float sum[16], lost[16];
  store(sum, t.sum);
  store(lost, t.lost);
  double out = 0;
  for (int i = 0; i < 16; ++i) out += static_cast<double>(sum[i]) - static_cast<double>(lost[i]);
  return out;
}

inline F32 load_part(const float* p, int64_t n, float fill) {
  float b[16];
  std::fill(b, b + 16, fill);
  std::memcpy(b, p, static_cast<size_t>(n) * 4);
  return load(b);
}

float largest(const float* x, int64_t n) {
  F32 top = splat(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) top = max(load(x + i), top);
  if (i < n) top = max(load_part(x + i, n - i, -std::numeric_limits<float>::infinity()), top);
  float lanes[16];
  store(lanes, top);
  return *std::max_element(lanes, lanes + 16);
}

int64_t first_not_below(const float* x, int64_t n, float limit) {
  int64_t i = 0;
  while (i + 16 <= n && to_bits(load(x + i) < splat(limit)) == 0xffff) i += 16;
  while (i < n && x[i] < limit) ++i;
  return i;
}

double sum_of_exps(const float* x, int64_t n, float top) {
  Total sum{splat(0.0f), splat(0.0f)};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) add_to(&sum, exp_lanes(load(x + i) - splat(top)));
  if (i < n) add_to(&sum, exp_lanes(load_part(x + i, n - i, -std::numeric_limits<float>::infinity()) - splat(top)));
  return value_of(sum);
}

// A number of f64 as two of f32.
struct Split {
  F32 high, low;
};
inline Split split(double x) {
  const float high = static_cast<float>(x);
  return {splat(high), splat(static_cast<float>(x - static_cast<double>(high)))};
}
inline F32 minus(F32 x, const Split& y) { return (x - y.high) - y.low; }

// (d - 1 + e^-d) / d^2 for |d| < 0.5, to 1e-9: the series.
inline F32 near_term(F32 d) {
  F32 h = splat(1.0f / 3628800.0f);
  h = fma(h, d, splat(-1.0f / 362880.0f));
  h = fma(h, d, splat(1.0f / 40320.0f));
  h = fma(h, d, splat(-1.0f / 5040.0f));
  h = fma(h, d, splat(1.0f / 720.0f));
  h = fma(h, d, splat(-1.0f / 120.0f));
  h = fma(h, d, splat(1.0f / 24.0f));
  h = fma(h, d, splat(-1.0f / 6.0f));
  return fma(h, d, splat(0.5f));
}

double divergence(const float* a, double log_a, const float* b, double log_b, int64_t n) {
  const Split of_a = split(log_a), of_b = split(log_b), shift = split(log_a - log_b);
  const auto term = [&](F32 x, F32 y) {
    const F32 d = minus(x - y, shift), p = exp_lanes(minus(x, of_a)), zero = splat(0.0f);
    const Mask near = abs(d) < splat(0.5f);
    const F32 small = p * (d * d * near_term(d));
    if (to_bits(near) == 0xffff) return small;
    const F32 q = exp_lanes(minus(y, of_b));
    return select(near, small, select(p > zero, fma(p, d - splat(1.0f), q), q));
  };
  Total sum{splat(0.0f), splat(0.0f)};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) add_to(&sum, term(load(a + i), load(b + i)));
  if (i < n) {
    constexpr float kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    add_to(&sum, select(load(kLanes) < splat(static_cast<float>(n - i)), term(load_part(a + i, n - i, 0), load_part(b + i, n - i, 0)), splat(0.0f)));
  }
  return value_of(sum);
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {

double divergence_one_by_one(const float* a, double log_a, const float* b, double log_b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double of_p = static_cast<double>(a[i]) - log_a, p = std::exp(of_p);
    if (p > 0) sum += p * (of_p - (static_cast<double>(b[i]) - log_b));
  }
  return sum;
}

}  // namespace

Softmax softmax_of(const float* x, int64_t n) {
  const float top = INGOT_DISPATCH(largest)(x, n);
  return {static_cast<double>(top) + std::log(INGOT_DISPATCH(sum_of_exps)(x, n, top)), INGOT_DISPATCH(first_not_below)(x, n, top)};
}

double kl_divergence(const float* a, const Softmax& of_a, const float* b, const Softmax& of_b, int64_t n) {
  const double sum = INGOT_DISPATCH(divergence)(a, of_a.log_sum, b, of_b.log_sum, n);
  return std::isfinite(sum) ? sum : divergence_one_by_one(a, of_a.log_sum, b, of_b.log_sum, n);
}

}  // namespace ingot
#endif
