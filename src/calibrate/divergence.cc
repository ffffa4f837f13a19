#include "calibrate/divergence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace ingot::calibrate {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

template <class F>
double mean_of(size_t n, F value) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += value(i);
  return n ? sum / static_cast<double>(n) : kNone;
}
template <class F>
Figure figure_of(size_t n, F value) {
  const double mean = mean_of(n, value);
  if (n < 2) return {mean, kNone};
  const double square = mean_of(n, [&](size_t i) { return (value(i) - mean) * (value(i) - mean); });
  return {mean, std::sqrt(square / static_cast<double>(n - 1))};
}

Perplexity perplexity_of(std::span<const TokenScore> s, float TokenScore::*nll) {
  Perplexity p;
  p.tokens = static_cast<int64_t>(s.size());
  p.nll = figure_of(s.size(), [&](size_t i) { return static_cast<double>(s[i].*nll); });
  p.perplexity.value = std::exp(p.nll.value);
  p.perplexity.error = p.perplexity.value * p.nll.error;
  return p;
}

// Of sorted values: between two of them in proportion.
double percentile(const std::vector<float>& sorted, double share) {
  if (sorted.empty()) return kNone;
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const double part = at - static_cast<double>(low), a = static_cast<double>(sorted[low]);
  return part > 0 ? a + part * (static_cast<double>(sorted[low + 1]) - a) : a;
}

}  // namespace

TokenScore score(const float* logits, const Softmax& softmax, int64_t token) {
  const auto nll = static_cast<float>(softmax.log_sum - static_cast<double>(logits[token]));
  return {nll, nll, 0, true};
}

TokenScore score(const float* reference, const Softmax& of_reference, const float* logits, const Softmax& of_logits, int64_t vocab, int64_t token) {
  TokenScore s = score(logits, of_logits, token);
  s.reference_nll = score(reference, of_reference, token).nll;
  s.divergence = static_cast<float>(kl_divergence(reference, of_reference, logits, of_logits, vocab));
  s.same_top = of_reference.top == of_logits.top;
  return s;
}

Perplexity perplexity(std::span<const TokenScore> scores) { return perplexity_of(scores, &TokenScore::nll); }
Perplexity reference_perplexity(std::span<const TokenScore> scores) { return perplexity_of(scores, &TokenScore::reference_nll); }

Divergence divergence(std::span<const TokenScore> s) {
  Divergence d;
  const size_t n = s.size();
  const auto nll = [&](size_t i) { return static_cast<double>(s[i].nll); };
  const auto reference_nll = [&](size_t i) { return static_cast<double>(s[i].reference_nll); };
  d.mean = figure_of(n, [&](size_t i) { return static_cast<double>(s[i].divergence); });
  std::vector<float> sorted(n);
  for (size_t i = 0; i < n; ++i) sorted[i] = s[i].divergence;
  std::sort(sorted.begin(), sorted.end());
  d.median = percentile(sorted, 0.5), d.percentile_99 = percentile(sorted, 0.99), d.percentile_999 = percentile(sorted, 0.999);
  d.max = percentile(sorted, 1), d.min = percentile(sorted, 0);

  const double mean = mean_of(n, nll), reference_mean = mean_of(n, reference_nll), p = std::exp(mean), reference_p = std::exp(reference_mean);
  d.log_ratio = figure_of(n, [&](size_t i) { return nll(i) - reference_nll(i); });
  d.ratio.value = std::exp(d.log_ratio.value);
  d.ratio.error = d.ratio.value * d.log_ratio.error;
  d.difference.value = p - reference_p;
  d.difference.error = figure_of(n, [&](size_t i) { return p * nll(i) - reference_p * reference_nll(i); }).error;
  double both = 0, own = 0, of_reference = 0;
  for (size_t i = 0; i < n; ++i) {
    const double a = nll(i) - mean, b = reference_nll(i) - reference_mean;
    both += a * b, own += a * a, of_reference += b * b;
  }
  d.correlation = own > 0 && of_reference > 0 ? both / std::sqrt(own * of_reference) : kNone;

  d.same_top = figure_of(n, [&](size_t i) { return s[i].same_top ? 1.0 : 0.0; });
  const auto dp = [&](size_t i) { return std::exp(-nll(i)) - std::exp(-reference_nll(i)); };
  d.mean_dp = figure_of(n, dp);
  const Figure square = figure_of(n, [&](size_t i) { return dp(i) * dp(i); });
  d.rms_dp.value = std::sqrt(square.value);
  d.rms_dp.error = square.value > 0 ? square.error / (2 * d.rms_dp.value) : square.error;
  return d;
}

Figure paired_difference(std::span<const TokenScore> a, std::span<const TokenScore> b, int64_t per_window, float TokenScore::*of) {
  const auto width = static_cast<size_t>(per_window);
  const auto mean = [&](std::span<const TokenScore> s, size_t window) {
    return mean_of(width, [&](size_t i) { return static_cast<double>(s[window * width + i].*of); });
  };
  return figure_of(width ? std::min(a.size(), b.size()) / width : 0, [&](size_t w) { return mean(b, w) - mean(a, w); });
}

}  // namespace ingot::calibrate
