// The softmax of a row of logits without its probabilities: its denominator, its largest value, and how far one is from another. Sums are compensated, as good as their terms
// however long the row; the same bits on every target.
#pragma once

#include <cstdint>

namespace ingot {

struct Softmax {
  double log_sum = 0;  // ln of the sum of e^x: ln p(i) = x[i] - log_sum
  int64_t top = 0;     // the place of the largest value, the first of equal ones
};
// Of n > 0 values, none of them NaN or +infinity.
Softmax softmax_of(const float* x, int64_t n);

// The sum of p (ln p - ln q), in nats, p and q the softmaxes of a and b. As the sum of p (d - 1 + e^-d), d = ln p - ln q, which is the same because p and q both sum to 1: no term
// is negative, so small divergences are not lost between terms of both signs, and what the denominators are off by counts only by its square. Infinite where q is 0 and p is not.
double kl_divergence(const float* a, const Softmax& of_a, const float* b, const Softmax& of_b, int64_t n);

}  // namespace ingot
