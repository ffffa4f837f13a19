// Attention over caches of every type against f64; the same bits on every target.
#include "infer/cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "infer/model.h"
#include "infer/session.h"
#include "infer/test_models.h"
#include "kernels/dispatch.h"

namespace ingot {
namespace {

using namespace testing_models;

constexpr CacheType kTypes[] = {CacheType::kF32, CacheType::kF16, CacheType::kQ8_0};

// What a type loses of numbers up to 4, at most.
double loss(CacheType t) { return t == CacheType::kF32 ? 1e-6 : t == CacheType::kF16 ? 4e-3 : 4.0 / 127; }

TEST(Cache, AttentionIsWhatTheTypesKeep) {
  for (const CacheType keys : kTypes)
    for (const CacheType values : kTypes)
      for (const auto& [heads, d, n, first] : std::vector<std::array<int64_t, 4>>{{1, 64, 1, 0}, {2, 80, 37, 0}, {3, 128, 200, 51}, {1, 24, 65, 16}, {2, 8, 17, 3}, {1, 32, 16, 15}}) {
        LayerCache cache;
        cache.shape = {{keys, values}, heads, d};
        cache.grow(n);
        const auto k = random_values(n * heads * d, 1, 1.0f), v = random_values(n * heads * d, 2, 1.0f), q = random_values(d, 3, 0.5f);
        for (int64_t t = 0; t < n; ++t) cache.put(t, k.data() + t * heads * d, v.data() + t * heads * d);
        for (int64_t h = 0; h < heads; ++h) {
          std::vector<double> p;
          double sum = 0;
          for (int64_t t = first; t < n; ++t) {
            double s = 0;
            for (int64_t e = 0; e < d; ++e) s += static_cast<double>(q[static_cast<size_t>(e)]) * k[static_cast<size_t>((t * heads + h) * d + e)];
            p.push_back(std::exp(0.1 * s));
            sum += p.back();
          }
          AlignedBytes room = allocate_aligned(static_cast<uint64_t>(attend_floats(256)) * 4);
          auto* scores = reinterpret_cast<float*>(room.get());
          std::vector<float> out(static_cast<size_t>(d)), again(out);
          attend(cache, q.data(), 1, h, first, n, 0.1f, 0, scores, out.data());
          for (int64_t e = 0; e < d; ++e) {
            double want = 0;
            for (int64_t t = first; t < n; ++t) want += p[static_cast<size_t>(t - first)] / sum * v[static_cast<size_t>((t * heads + h) * d + e)];
            ASSERT_NEAR(out[static_cast<size_t>(e)], want, loss(values) + 0.3 * loss(keys)) << static_cast<int>(keys) << " " << static_cast<int>(values) << " " << d << " element " << e;
          }
          // Among others it is the same.
          std::vector<float> many, outs(static_cast<size_t>(7 * d));
          for (int i = 0; i < 7; ++i)
            for (const float e : q) many.push_back(i == 5 || i == 2 ? e : e * static_cast<float>(i));
          attend(cache, many.data(), 7, h, first, n, 0.1f, 0, scores, outs.data());
          for (const int64_t i : {2, 5}) ASSERT_EQ(0, std::memcmp(outs.data() + i * d, out.data(), out.size() * 4)) << i;
          for (const std::string& target : supported_targets()) {
            ASSERT_TRUE(force_target(target));
            attend(cache, q.data(), 1, h, first, n, 0.1f, 0, scores, again.data());
            ASSERT_TRUE(force_target(""));
            ASSERT_EQ(0, std::memcmp(out.data(), again.data(), out.size() * 4)) << target;
          }
        }
      }
}

TEST(Cache, TakesWhatItsTypesTake) {
  LayerCache wide, half, quarter;
  wide.shape = {{}, 8, 128}, half.shape = {{CacheType::kF16, CacheType::kF16}, 8, 128}, quarter.shape = {{CacheType::kQ8_0, CacheType::kQ8_0}, 8, 128};
  for (LayerCache* c : {&wide, &half, &quarter}) c->grow(1000);
  const auto bytes = [](const LayerCache& c) { return static_cast<double>(c.keys.size() + c.values.size()); };
  EXPECT_EQ(bytes(wide), 1008.0 * 8 * 128 * 2 * 4);
  EXPECT_EQ(bytes(half) / bytes(wide), 0.5);
  EXPECT_NEAR(bytes(quarter) / bytes(wide), 0.28, 0.01);
  // What is no number stays none, and is no undefined conversion.
  std::vector<float> nan(8 * 128, NAN), out(128);
  quarter.put(0, nan.data(), nan.data());
  AlignedBytes room = allocate_aligned(static_cast<uint64_t>(attend_floats(256)) * 4);
  attend(quarter, std::vector<float>(128, 1.0f).data(), 1, 3, 0, 1, 1, 0, reinterpret_cast<float*>(room.get()), out.data());
  EXPECT_TRUE(std::isnan(out[0]));
  // What f16 has not is its greatest.
  std::vector<float> great(8 * 128, 1e6f);
  half.put(0, great.data(), great.data());
  attend(half, std::vector<float>(128, 0.0f).data(), 1, 3, 0, 1, 1, 0, reinterpret_cast<float*>(room.get()), out.data());
  EXPECT_EQ(out[0], 65504.0f);
}

TEST(Cache, ASessionSaysNearlyTheSameWithAnyOfThem) {
  const auto model = Model::load(random_model({.layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96, .vocab = 101, .context = 256}));
  ASSERT_TRUE(model.ok());
  std::vector<int32_t> tokens(90);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 37 % 101);
  const auto logits = [&](CacheType type, int64_t batch) {
    SessionOptions o;
    o.batch = batch;
    o.cache = {type, type};
    Session s(**model, o);
    const auto r = s.forward(tokens, Logits::kAll);
    EXPECT_TRUE(r.ok());
    return std::vector<float>(r->begin(), r->end());
  };
  const auto exact = logits(CacheType::kF32, 512);
  for (const CacheType type : {CacheType::kF16, CacheType::kQ8_0}) {
    const auto got = logits(type, 512);
    double error = 0, energy = 0;
    for (size_t i = 0; i < exact.size(); ++i) error += std::pow(got[i] - exact[i], 2), energy += std::pow(exact[i], 2);
    EXPECT_LT(std::sqrt(error / energy), type == CacheType::kF16 ? 1e-3 : 2e-2);
    EXPECT_GT(error, 0);
  }
}

}  // namespace
}  // namespace ingot
