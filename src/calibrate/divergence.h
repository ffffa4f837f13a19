// Perplexity, and the divergence of a model from a reference, token by token and summed up with error bars. Formulas and names: llama-perplexity --kl-divergence.
#pragma once

#include <cstdint>
#include <vector>

namespace ingot::calibrate {

// ln of the softmax's denominator of logits [vocab], and the place of the largest one (the first of equal ones).
struct Softmax {
  double log_sum = 0;
  int64_t top = 0;
};
Softmax softmax_of(const float* logits, int64_t vocab);

// Of one scored position.
struct TokenScore {
  float nll = 0;        // -ln p(the token that follows)
  float reference_nll = 0;  // the reference's
  float divergence = 0; // sum over the vocabulary of p_reference (ln p_reference - ln p), in nats
  bool same_top = false;
};
float negative_log_likelihood(const float* logits, const Softmax& s, int64_t token);
TokenScore score(const float* reference, const Softmax& of_reference, const float* logits, const Softmax& of_logits, int64_t vocab, int64_t token);

// A figure and its standard error.
struct Figure {
  double value = 0, error = 0;
};
struct Perplexity {
  int64_t tokens = 0;
  Figure nll;         // mean
  Figure perplexity;  // exp of it; the error by propagation
};
Perplexity perplexity(const std::vector<TokenScore>& scores);

struct Divergence {
  Figure mean, ratio, difference;  // of the divergence; perplexity / the reference's, and minus it (paired: the errors take the covariance)
  double median = 0, percentile_99 = 0, percentile_999 = 0, max = 0, min = 0;
  Figure same_top;     // share, 0 to 1
  Figure mean_dp;      // of p(token) - p_reference(token), 0 to 1
  Figure rms_dp;       // root of the mean of its square
  double correlation = 0;  // of ln p(token) and the reference's
};
Divergence divergence(const std::vector<TokenScore>& scores);

}  // namespace ingot::calibrate
