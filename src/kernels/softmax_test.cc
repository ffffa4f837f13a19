// Softmax denominators and divergences on every target: against plain sums of f64, and the scalar target's bits.
#include "kernels/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/dispatch.h"

namespace ingot {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

double exact_log_sum(const std::vector<float>& x) {
  const double top = static_cast<double>(*std::max_element(x.begin(), x.end()));
  long double sum = 0;
  for (const float v : x) sum += std::exp(static_cast<long double>(v) - static_cast<long double>(top));
  return top + static_cast<double>(std::log(sum));
}

double exact_divergence(const std::vector<float>& a, const std::vector<float>& b) {
  long double sum = 0, log_a = 0, log_b = 0;
  for (size_t i = 0; i < a.size(); ++i) log_a += std::exp(static_cast<long double>(a[i])), log_b += std::exp(static_cast<long double>(b[i]));
  log_a = std::log(log_a), log_b = std::log(log_b);
  for (size_t i = 0; i < a.size(); ++i) {
    const long double p = static_cast<long double>(a[i]) - log_a;
    if (std::exp(p) > 0) sum += std::exp(p) * (p - (static_cast<long double>(b[i]) - log_b));
  }
  return static_cast<double>(sum);
}

std::vector<float> random_logits(int64_t n, uint32_t seed, double deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, deviation);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(normal(random));
  return x;
}
// Logits nearly the same.
std::vector<float> moved(std::vector<float> x, uint32_t seed, double deviation) {
  const auto by = random_logits(static_cast<int64_t>(x.size()), seed, deviation);
  for (size_t i = 0; i < x.size(); ++i) x[i] += by[i];
  return x;
}

int64_t size_of(const std::vector<float>& x) { return static_cast<int64_t>(x.size()); }
double divergence(const std::vector<float>& a, const std::vector<float>& b) {
  return kl_divergence(a.data(), softmax_of(a.data(), size_of(a)), b.data(), softmax_of(b.data(), size_of(b)), size_of(a));
}

class SoftmaxKernel : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(force_target(GetParam())); }
  void TearDown() override { force_target(""); }
};

TEST_P(SoftmaxKernel, DenominatorsAreThoseOfF64) {
  for (const int64_t n : {1, 2, 15, 16, 17, 100, 4096, 128256})
    for (const double deviation : {0.01, 1.0, 4.0, 30.0}) {
      const auto x = random_logits(n, static_cast<uint32_t>(n), deviation);
      const Softmax s = softmax_of(x.data(), n);
      EXPECT_NEAR(s.log_sum, exact_log_sum(x), 1.5e-7) << n << " " << deviation;
      EXPECT_EQ(s.top, std::max_element(x.begin(), x.end()) - x.begin());
    }
}

TEST_P(SoftmaxKernel, OfMillionsOfSmallTermsNoneIsLost) {
  std::vector<float> x(4000000, -14.0f);
  x[5] = 0;
  EXPECT_NEAR(softmax_of(x.data(), size_of(x)).log_sum, std::log1p((4e6 - 1) * std::exp(-14.0)), 2e-7);
}

TEST_P(SoftmaxKernel, TheFirstOfEqualOnesIsTheTop) {
  std::vector<float> x(50, 1.0f);
  EXPECT_EQ(softmax_of(x.data(), 50).top, 0);
  for (const size_t at : {17u, 31u, 32u, 48u, 49u}) {
    std::fill(x.begin(), x.end(), -2.0f);
    x[at] = 3, x[49] = 3;
    EXPECT_EQ(softmax_of(x.data(), 50).top, static_cast<int64_t>(at));
  }
}

TEST_P(SoftmaxKernel, ExtremeLogits) {
  const std::vector<float> one = {1e30f, -1e30f, 5, -kInfinity, 0}, low = {-1e30f, -kInfinity, -2e30f};
  EXPECT_EQ(softmax_of(one.data(), 5).log_sum, static_cast<double>(1e30f));
  EXPECT_EQ(softmax_of(one.data(), 5).top, 0);
  EXPECT_EQ(softmax_of(low.data(), 3).log_sum, static_cast<double>(-1e30f));
  EXPECT_EQ(divergence(one, one), 0);
  std::vector<float> two(40, -100), other(40, -100);
  two[3] = 20, other[4] = 20;
  EXPECT_NEAR(divergence(two, other), 120, 1e-4);
  two[3] = 3e38f, other[4] = 3e38f;
  EXPECT_NEAR(divergence(two, other) / 3e38, 1, 1e-6);
}

TEST_P(SoftmaxKernel, InfinitelyUnlikelyTokens) {
  std::vector<float> a = random_logits(100, 1, 2), b = moved(a, 2, 0.1);
  const double before = divergence(a, b);
  // Of a token that both exclude nothing is left.
  a.push_back(-kInfinity), b.push_back(-kInfinity);
  EXPECT_NEAR(divergence(a, b), before, 1e-6);
  // That the reference alone excludes: what the other spends on it is missing elsewhere.
  b.back() = 1;
  EXPECT_NEAR(divergence(a, b), before + std::log1p(std::exp(1.0 - softmax_of(b.data(), 100).log_sum)), 1e-6);
  std::swap(a, b);
  EXPECT_EQ(divergence(a, b), static_cast<double>(kInfinity));
}

TEST_P(SoftmaxKernel, DivergencesAreThoseOfF64HoweverSmall) {
  for (const int64_t n : {1, 3, 16, 33, 4096, 50257})
    for (const double deviation : {0.5, 3.0, 12.0})
      for (const double change : {1e-4, 1e-2, 0.3, 3.0}) {
        const auto a = random_logits(n, 3, deviation), b = moved(a, 4, change);
        const double expected = exact_divergence(a, b), found = divergence(a, b);
        EXPECT_NEAR(found, expected, 1e-5 * expected + 1e-13) << n << " " << deviation << " " << change;
        EXPECT_GE(found, 0);
      }
}

TEST_P(SoftmaxKernel, OfItselfAndOfAnAddedConstantNothing) {
  const auto a = random_logits(1001, 7, 5);
  EXPECT_EQ(divergence(a, a), 0);
  auto b = a;
  for (float& v : b) v = v * 0.5f + 4;  // exact
  auto c = a;
  for (float& v : c) v = v * 0.5f;
  EXPECT_LT(divergence(b, c), 1e-12);
}

TEST_P(SoftmaxKernel, EveryTargetGivesTheScalarBits) {
  for (const int64_t n : {1, 16, 31, 5000})
    for (const double change : {1e-3, 1.0}) {
      const auto a = random_logits(n, 11, 6), b = moved(a, 12, change);
      const Softmax s = softmax_of(a.data(), n);
      const double d = divergence(a, b);
      ASSERT_TRUE(force_target("scalar"));
      EXPECT_EQ(softmax_of(a.data(), n).log_sum, s.log_sum);
      EXPECT_EQ(divergence(a, b), d);
      ASSERT_TRUE(force_target(GetParam()));
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, SoftmaxKernel, ::testing::ValuesIn(supported_targets()), [](const auto& t) { return t.param; });

}  // namespace
}  // namespace ingot
