// Figures of scores against plain f64, by the formulas of llama-perplexity.
#include "calibrate/divergence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace ingot::calibrate {
namespace {

std::vector<TokenScore> random_scores(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::gamma_distribution<double> nll(2, 1.5), kl(0.5, 0.02);
  std::normal_distribution<double> change(0.01, 0.1);
  std::vector<TokenScore> out;
  for (size_t i = 0; i < n; ++i) {
    const double r = nll(random);
    out.push_back({static_cast<float>(std::max(0.0, r + change(random))), static_cast<float>(r), static_cast<float>(kl(random)), random() % 10 != 0});
  }
  return out;
}

// As llama-perplexity has it: from sums, sums of squares and of products.
struct Sums {
  double n, x = 0, xx = 0;
  double mean() const { return x / n; }
  double error() const { return std::sqrt((xx / n - mean() * mean()) / (n - 1)); }
};
template <class F>
Sums sums(const std::vector<TokenScore>& s, F f) {
  Sums out{static_cast<double>(s.size())};
  for (const TokenScore& t : s) out.x += f(t), out.xx += f(t) * f(t);
  return out;
}

TEST(Divergence, FiguresAreThoseOfTheReferencesFormulas) {
  const auto s = random_scores(5000, 1);
  const double n = 5000;
  const auto nll = [](const TokenScore& t) { return static_cast<double>(t.nll); };
  const auto base = [](const TokenScore& t) { return static_cast<double>(t.reference_nll); };
  const Sums q = sums(s, nll), r = sums(s, base), kl = sums(s, [](const TokenScore& t) { return static_cast<double>(t.divergence); });
  double both = 0, same = 0;
  for (const TokenScore& t : s) both += nll(t) * base(t), same += t.same_top;
  const double covariance = (both / n - q.mean() * r.mean()) / (n - 1);

  const Perplexity p = perplexity(s), of_reference = reference_perplexity(s);
  EXPECT_EQ(p.tokens, 5000);
  EXPECT_NEAR(p.nll.value, q.mean(), 1e-12);
  EXPECT_NEAR(p.nll.error, q.error(), 1e-12);
  EXPECT_NEAR(p.perplexity.value, std::exp(q.mean()), 1e-11);
  EXPECT_NEAR(p.perplexity.error, std::exp(q.mean()) * q.error(), 1e-11);
  EXPECT_NEAR(of_reference.perplexity.value, std::exp(r.mean()), 1e-11);

  const Divergence d = divergence(s);
  EXPECT_NEAR(d.mean.value, kl.mean(), 1e-13);
  EXPECT_NEAR(d.mean.error, kl.error(), 1e-13);
  const double ratio_error = std::sqrt(q.error() * q.error() + r.error() * r.error() - 2 * covariance);
  EXPECT_NEAR(d.log_ratio.value, q.mean() - r.mean(), 1e-12);
  EXPECT_NEAR(d.log_ratio.error, ratio_error, 1e-10);
  EXPECT_NEAR(d.ratio.value, std::exp(q.mean() - r.mean()), 1e-12);
  EXPECT_NEAR(d.ratio.error, d.ratio.value * ratio_error, 1e-10);
  const double a = p.perplexity.error, b = of_reference.perplexity.error;
  EXPECT_NEAR(d.difference.value, std::exp(q.mean()) - std::exp(r.mean()), 1e-11);
  EXPECT_NEAR(d.difference.error, std::sqrt(a * a + b * b - 2 * std::exp(q.mean()) * std::exp(r.mean()) * covariance), 1e-9);
  EXPECT_NEAR(d.correlation, covariance / (q.error() * r.error()), 1e-11);
  EXPECT_NEAR(d.same_top.value, same / n, 1e-13);
  EXPECT_NEAR(d.same_top.error, std::sqrt(same / n * (1 - same / n) / (n - 1)), 1e-13);
  const auto dp = [&](const TokenScore& t) { return std::exp(-nll(t)) - std::exp(-base(t)); };
  const Sums change = sums(s, dp), square = sums(s, [&](const TokenScore& t) { return dp(t) * dp(t); });
  EXPECT_NEAR(d.mean_dp.value, change.mean(), 1e-13);
  EXPECT_NEAR(d.mean_dp.error, change.error(), 1e-13);
  EXPECT_NEAR(d.rms_dp.value, std::sqrt(square.mean()), 1e-13);
  EXPECT_NEAR(d.rms_dp.error, 0.5 / std::sqrt(square.mean()) * square.error(), 1e-12);
}

TEST(Divergence, PercentilesLieBetweenNeighboursInProportion) {
  std::vector<TokenScore> s(11);
  for (size_t i = 0; i < s.size(); ++i) s[(i * 7) % 11].divergence = static_cast<float>(i);
  Divergence d = divergence(s);
  EXPECT_EQ(d.min, 0);
  EXPECT_EQ(d.median, 5);
  EXPECT_NEAR(d.percentile_99, 9.9, 1e-12);
  EXPECT_NEAR(d.percentile_999, 9.99, 1e-12);
  EXPECT_EQ(d.max, 10);
  s.pop_back();
  s[0].divergence = 100;
  d = divergence(s);
  EXPECT_EQ(d.max, 100);
  std::vector<float> sorted;
  for (const TokenScore& t : s) sorted.push_back(t.divergence);
  std::sort(sorted.begin(), sorted.end());
  EXPECT_NEAR(d.median, (static_cast<double>(sorted[4]) + static_cast<double>(sorted[5])) / 2, 1e-12);
}

TEST(Divergence, OfAModelFromItselfThereIsNone) {
  auto s = random_scores(300, 2);
  for (TokenScore& t : s) t.reference_nll = t.nll, t.divergence = 0, t.same_top = true;
  const Divergence d = divergence(s);
  EXPECT_EQ(d.mean.value, 0);
  EXPECT_EQ(d.mean.error, 0);
  EXPECT_EQ(d.max, 0);
  EXPECT_EQ(d.ratio.value, 1);
  EXPECT_EQ(d.ratio.error, 0);
  EXPECT_EQ(d.difference.value, 0);
  EXPECT_EQ(d.difference.error, 0);
  EXPECT_EQ(d.correlation, 1);
  EXPECT_EQ(d.same_top.value, 1);
  EXPECT_EQ(d.same_top.error, 0);
  EXPECT_EQ(d.rms_dp.value, 0);
  EXPECT_EQ(d.rms_dp.error, 0);
}

TEST(Divergence, WhatIsNotDefinedIsNotANumber) {
  const std::vector<TokenScore> one = {{1, 2, 0.5f, true}};
  const Divergence d = divergence(one);
  EXPECT_EQ(d.mean.value, 0.5);
  EXPECT_TRUE(std::isnan(d.mean.error));
  EXPECT_TRUE(std::isnan(d.correlation));
  EXPECT_EQ(d.median, 0.5);
  EXPECT_TRUE(std::isnan(divergence({}).mean.value));
  EXPECT_TRUE(std::isnan(perplexity({}).perplexity.value));
  EXPECT_EQ(perplexity({}).tokens, 0);
}

TEST(Divergence, OnePosition) {
  const float reference[] = {1, 3, 2, 3}, other[] = {1, 2, 4, 2};
  const auto log_sum = [](const float* x) { return std::log(std::exp(static_cast<double>(x[0])) + std::exp(static_cast<double>(x[1])) + std::exp(static_cast<double>(x[2])) + std::exp(static_cast<double>(x[3]))); };
  double expected = 0;
  for (int i = 0; i < 4; ++i) {
    const double p = static_cast<double>(reference[i]) - log_sum(reference), q = static_cast<double>(other[i]) - log_sum(other);
    expected += std::exp(p) * (p - q);
  }
  const TokenScore s = score(reference, softmax_of(reference, 4), other, softmax_of(other, 4), 4, 3);
  EXPECT_NEAR(s.nll, log_sum(other) - 2, 1e-6);
  EXPECT_NEAR(s.reference_nll, log_sum(reference) - 3, 1e-6);
  EXPECT_NEAR(s.divergence, expected, 1e-6);
  EXPECT_FALSE(s.same_top);
  const TokenScore own = score(reference, softmax_of(reference, 4), 0);
  EXPECT_EQ(own.nll, own.reference_nll);
  EXPECT_TRUE(own.same_top);
}

TEST(Divergence, PairedOverWindows) {
  // Windows differ much from each other, models little from each other: the pairing takes that out.
  std::vector<TokenScore> a(12), b(12);
  const double change[] = {0.1, 0.3, 0.2};
  for (size_t i = 0; i < 12; ++i) {
    a[i].divergence = static_cast<float>(i / 4 * 10);
    b[i].divergence = a[i].divergence + static_cast<float>(change[i / 4] + (i % 2 ? 1 : -1));
  }
  const Figure f = paired_difference(a, b, 4, &TokenScore::divergence);
  EXPECT_NEAR(f.value, 0.2, 1e-6);
  EXPECT_NEAR(f.error, 0.1 / std::sqrt(3.0), 1e-6);
  EXPECT_TRUE(std::isnan(paired_difference(std::span(a).first(4), std::span(b).first(4), 4, &TokenScore::divergence).error));
  EXPECT_TRUE(std::isnan(paired_difference({}, {}, 4, &TokenScore::nll).value));
}

}  // namespace
}  // namespace ingot::calibrate
