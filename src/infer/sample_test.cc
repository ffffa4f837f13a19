// The sampler: ties, filters, the penalty, and that a seed gives one sequence.
#include "infer/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace ingot {
namespace {

std::set<int32_t> reachable(const SampleOptions& o, const std::vector<float>& logits,
                            const std::vector<int32_t>& history = {}) {
  Sampler s(o);
  std::set<int32_t> seen;
  for (int i = 0; i < 2000; ++i) seen.insert(s.next(logits, history));
  return seen;
}

TEST(Sample, GreedyTiesGoToTheLowestIndex) {
  Sampler s{SampleOptions{}};
  EXPECT_EQ(s.next(std::vector<float>{1, 3, 3, 2}, {}), 1);
  EXPECT_EQ(s.next(std::vector<float>{NAN, -1, -1}, {}), 1);
  EXPECT_EQ(s.next(std::vector<float>{-INFINITY, -INFINITY}, {}), 0);
  EXPECT_EQ(s.next(std::vector<float>{}, {}), 0);
}

TEST(Sample, TopKKeepsTheLowestIndexOfATie) {
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 2}, {1, 1, 1, 1}), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 1}, {0, 2, 2}), (std::set<int32_t>{1}));
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 100}, {1, 1, 1}).size(), 3u);
}

TEST(Sample, TopPAndMinP) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.6f}, logits), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.01f}, logits), (std::set<int32_t>{0}));
  EXPECT_EQ(reachable({.temperature = 1, .min_p = 0.25f}, logits), (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(reachable({.temperature = 1, .min_p = 1.0f}, logits), (std::set<int32_t>{0}));
}

TEST(Sample, FrequenciesFollowTheTemperature) {
  const std::vector<float> logits = {0, std::log(3.0f)};
  Sampler s({.temperature = 1, .seed = 5});
  int ones = 0;
  for (int i = 0; i < 20000; ++i) ones += s.next(logits, {});
  EXPECT_NEAR(ones / 20000.0, 0.75, 0.01);
  Sampler hot({.temperature = 1e6f, .seed = 5});
  ones = 0;
  for (int i = 0; i < 20000; ++i) ones += hot.next(logits, {});
  EXPECT_NEAR(ones / 20000.0, 0.5, 0.012);
  EXPECT_EQ(reachable({.temperature = 1e-6f}, logits), (std::set<int32_t>{1}));
}

TEST(Sample, RepeatPenalty) {
  Sampler s({.repeat_penalty = 2.0f});
  const std::vector<int32_t> history = {1, 1};
  EXPECT_EQ(s.next(std::vector<float>{1.5f, 2, 0}, history), 0);  // 2 -> 1, once though it was seen twice
  EXPECT_EQ(s.next(std::vector<float>{-3, -2, -9}, history), 0);  // -2 -> -4
  Sampler forgetful({.repeat_penalty = 2.0f, .repeat_last = 0});
  EXPECT_EQ(forgetful.next(std::vector<float>{1.5f, 2, 0}, history), 1);
  EXPECT_EQ(s.next(std::vector<float>{1, 2}, std::vector<int32_t>{-1, 7, INT32_MAX}), 1);
}

TEST(Sample, SeedDecides) {
  const std::vector<float> logits(50, 0.0f);
  auto draw = [&](uint64_t seed) {
    Sampler s({.temperature = 1, .seed = seed});
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(s.next(logits, {}));
    return ids;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
  EXPECT_EQ(reachable({.temperature = 1}, {NAN, 0.0f, NAN}), (std::set<int32_t>{1}));
  EXPECT_EQ(reachable({.temperature = 1}, {-INFINITY, -INFINITY}).size(), 2u);
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_GE(random_unit(i, i), 0.0);
    EXPECT_LT(random_unit(i, i), 1.0);
  }
}

TEST(Sample, OptionsAreChecked) {
  EXPECT_TRUE(check_sample_options({}).ok());
  EXPECT_FALSE(check_sample_options({.temperature = NAN}).ok());
  EXPECT_FALSE(check_sample_options({.temperature = INFINITY}).ok());
  EXPECT_FALSE(check_sample_options({.top_k = -1}).ok());
  EXPECT_FALSE(check_sample_options({.top_p = 0}).ok());
  EXPECT_FALSE(check_sample_options({.min_p = 2}).ok());
  EXPECT_FALSE(check_sample_options({.repeat_penalty = 0}).ok());
}

}  // namespace
}  // namespace ingot
