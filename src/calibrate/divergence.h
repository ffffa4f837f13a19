// Perplexity, and the divergence of a model from a reference, token by token and summed up with error bars. Figures and errors as llama-perplexity has them (docs/eval.md has the
// formulas); the logits are never rounded, and sums are of f64.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/softmax.h"

namespace ingot::calibrate {

// Of one scored position.
struct TokenScore {
  float nll = 0;            // -ln p(the token that follows)
  float reference_nll = 0;  // the reference's
  float divergence = 0;     // sum over the vocabulary of p_reference (ln p_reference - ln p), in nats
  bool same_top = false;    // the likeliest token is the reference's
};
// Of a model alone: its own reference.
TokenScore score(const float* logits, const Softmax& softmax, int64_t token);
TokenScore score(const float* reference, const Softmax& of_reference, const float* logits, const Softmax& of_logits, int64_t vocab, int64_t token);

// A figure and its standard error, NaN where it has none: of fewer than two values.
struct Figure {
  double value = 0, error = 0;
};
struct Perplexity {
  int64_t tokens = 0;
  Figure nll;         // mean, in nats
  Figure perplexity;  // exp of it
};
Perplexity perplexity(std::span<const TokenScore> scores);
Perplexity reference_perplexity(std::span<const TokenScore> scores);

struct Divergence {
  Figure mean;                                                          // of the divergence
  double median = 0, percentile_99 = 0, percentile_999 = 0, max = 0, min = 0;
  Figure log_ratio, ratio, difference;  // ln(perplexity / the reference's), the ratio, and perplexity minus the reference's; paired, token by token
  double correlation = 0;               // of ln p(token) and the reference's; NaN where one of them is always the same
  Figure same_top;                      // share, 0 to 1
  Figure mean_dp, rms_dp;               // of p(token) - p_reference(token), 0 to 1
};
Divergence divergence(std::span<const TokenScore> scores);

// The mean of `of` in b minus that in a, of the same windows of `per_window` positions each; its error from the windows, whose tokens are not independent of each other.
Figure paired_difference(std::span<const TokenScore> a, std::span<const TokenScore> b, int64_t per_window, float TokenScore::*of);

}  // namespace ingot::calibrate
