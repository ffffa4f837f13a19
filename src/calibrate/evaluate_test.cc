// Models beside each other: against logits of transformers and a plain f64 sum over a session's logits; the same bits whatever the threads, the memory, the plan.
#include "calibrate/evaluate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "infer/session.h"
#include "infer/test_models.h"

namespace ingot::calibrate {
namespace {

using namespace testing_models;

constexpr Size kSize = {.layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96, .vocab = 301, .context = 256};

Candidate candidate(const Artifact& a, int threads = 2, int64_t* loads = nullptr) {
  const auto config = read_model_config(a);
  EXPECT_TRUE(config.ok());
  Candidate c{a.path, *config, weight_bytes(a), weight_bytes(a, false), 0, [a, threads, loads](bool resident) {
                LoadOptions o;
                o.threads = threads, o.resident = resident, o.arithmetic = Arithmetic::kExact;
                if (loads) ++*loads;
                return Model::load(a, o);
              }};
  c.config.vocab = a.find("token_embd.weight")->spec().shape[0];
  for (const char* name : {"token_embd.weight", "output.weight"})
    if (const LazyTensor* t = a.find(name)) c.head += bytes_of(t->spec());
  return c;
}

TokenWindows eval_windows(int64_t n, int64_t length, int64_t vocab) {
  TokenWindows w;
  w.length = length;
  for (int64_t i = 0; i < n * length; ++i) w.ids.push_back(static_cast<int32_t>(random_unit(9, static_cast<uint64_t>(i)) * static_cast<double>(vocab)));
  w.category.assign(static_cast<size_t>(n), 0);
  w.categories = {""};
  w.tokens = n * length;
  return w;
}

struct Made {
  Scores scores;
  EvaluatePlan plan;
};
Made run(const std::vector<Candidate>& all, bool against, const TokenWindows& w, uint64_t memory = 0, int64_t batch = 512) {
  Made r;
  EvaluateOptions o;
  o.memory = memory, o.batch = batch;
  const auto plan = plan_evaluation(all, against, w, o);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  if (!plan.ok()) return r;
  r.plan = *plan;
  const Status s = evaluate(all, against, w, r.plan, o, &r.scores);
  EXPECT_TRUE(s.ok()) << s.error().message;
  for (const int64_t n : r.scores.windows) EXPECT_EQ(n, w.count());
  return r;
}

void expect_same(const Scores& a, const Scores& b) {
  ASSERT_EQ(a.models.size(), b.models.size());
  for (size_t m = 0; m < a.models.size(); ++m) {
    ASSERT_EQ(a.models[m].size(), b.models[m].size());
    for (size_t i = 0; i < a.models[m].size(); ++i) {
      const TokenScore &x = a.models[m][i], &y = b.models[m][i];
      ASSERT_TRUE(x.nll == y.nll && x.reference_nll == y.reference_nll && x.divergence == y.divergence && x.same_top == y.same_top) << m << " " << i;
    }
  }
}

TEST(Evaluate, IsAPlainSumOverTheLogitsOfASession) {
  const Artifact a = random_model(kSize, DType::kF32, 1), b = random_model(kSize, DType::kF32, 1000);
  const TokenWindows w = eval_windows(3, 21, kSize.vocab);
  const Scores s = run({candidate(a), candidate(b)}, true, w).scores;
  ASSERT_EQ(s.per_window, 10);  // positions 10 to 19 of 21
  std::vector<std::vector<double>> p[2];
  for (const Artifact* x : {&a, &b}) {
    LoadOptions exact;
    exact.arithmetic = Arithmetic::kExact;
    const auto model = Model::load(*x, exact);
    ASSERT_TRUE(model.ok());
    for (int64_t window = 0; window < 3; ++window) {
      Session session(**model);
      const auto logits = session.forward(std::span(w.ids).subspan(static_cast<size_t>(window * 21), 21), Logits::kAll);
      ASSERT_TRUE(logits.ok());
      for (size_t at = 0; at < 21; ++at) {
        std::vector<double> row(kSize.vocab);
        double sum = 0;
        for (size_t i = 0; i < row.size(); ++i) sum += row[i] = std::exp(static_cast<double>((*logits)[at * row.size() + i]));
        for (double& v : row) v /= sum;
        p[x == &b].push_back(row);
      }
    }
  }
  for (size_t window = 0; window < 3; ++window)
    for (size_t at = 10; at < 20; ++at) {
      const auto &reference = p[0][window * 21 + at], &other = p[1][window * 21 + at];
      const auto token = static_cast<size_t>(w.ids[window * 21 + at + 1]);
      const TokenScore &own = s.models[0][window * 10 + at - 10], &t = s.models[1][window * 10 + at - 10];
      double kl = 0;
      for (size_t i = 0; i < reference.size(); ++i) kl += reference[i] * std::log(reference[i] / other[i]);
      EXPECT_NEAR(t.divergence, kl, 1e-5 * kl);
      EXPECT_NEAR(t.nll, -std::log(other[token]), 1e-5);
      EXPECT_NEAR(t.reference_nll, -std::log(reference[token]), 1e-5);
      EXPECT_EQ(own.nll, t.reference_nll);
      EXPECT_EQ(own.divergence, 0);
      EXPECT_EQ(t.same_top, std::max_element(reference.begin(), reference.end()) - reference.begin() == std::max_element(other.begin(), other.end()) - other.begin());
    }
}

// The recorded logits are transformers', of the same weights.
TEST(Evaluate, TheBundledModelHasThePerplexityThatTransformersGivesIt) {
  const auto recorded = read_safetensors(std::string(INGOT_SOURCE_DIR) + "/tests/data/infer/logits.safetensors");
  const Raw& logits = recorded.at("logits");
  const Raw& tokens = recorded.at("tokens");
  const int64_t n = logits.shape[logits.shape.size() - 2], vocab = logits.shape.back();
  TokenWindows w = eval_windows(1, n, vocab);
  for (int64_t i = 0; i < n; ++i) {
    int64_t id = 0;
    std::memcpy(&id, tokens.bytes.data() + static_cast<size_t>(i) * tokens.bytes.size() / static_cast<size_t>(n), tokens.bytes.size() / static_cast<size_t>(n));
    w.ids[static_cast<size_t>(i)] = static_cast<int32_t>(id);
  }
  const Scores s = run({candidate(bundled_model())}, false, w).scores;
  const auto* x = reinterpret_cast<const float*>(logits.bytes.data());
  double expected = 0;
  for (int64_t at = n / 2; at < n - 1; ++at) {
    double sum = 0;
    for (int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(x[at * vocab + i]));
    expected += std::log(sum) - static_cast<double>(x[at * vocab + w.ids[static_cast<size_t>(at + 1)]]);
  }
  expected /= static_cast<double>(n - 1 - n / 2);
  const Perplexity p = perplexity(s.models[0]);
  EXPECT_EQ(p.tokens, n - 1 - n / 2);
  EXPECT_NEAR(p.nll.value, expected, 1e-5);
}

TEST(Evaluate, AModelAgainstItselfHasNoDivergence) {
  const Artifact a = random_model(kSize, DType::kQ8_0);
  const Scores s = run({candidate(a), candidate(a)}, true, eval_windows(4, 32, kSize.vocab)).scores;
  const Divergence d = divergence(s.models[1]);
  EXPECT_EQ(d.mean.value, 0);
  EXPECT_EQ(d.max, 0);
  EXPECT_EQ(d.ratio.value, 1);
  EXPECT_EQ(d.same_top.value, 1);
  EXPECT_EQ(d.correlation, 1);
}

TEST(Evaluate, ThreadsChangeNothing) {
  const Artifact a = random_model(kSize, DType::kF32), b = random_model(kSize, DType::kQ4_0);
  const TokenWindows w = eval_windows(5, 40, kSize.vocab);
  const Scores one = run({candidate(a, 1), candidate(b, 1)}, true, w).scores;
  for (const int threads : {2, 7}) expect_same(run({candidate(a, threads), candidate(b, threads)}, true, w).scores, one);
}

// Every amount of memory between the least and what holds all gives the same figures, by all the ways there are.
TEST(Evaluate, MemoryChangesTheWayAndNotTheFigures) {
  const Artifact a = random_model(kSize, DType::kF32), b = random_model(kSize, DType::kQ8_0), c = random_model(kSize, DType::kQ4_0);
  const TokenWindows w = eval_windows(9, 24, kSize.vocab);
  for (const bool against : {true, false}) {
    int64_t loads = 0;
    const std::vector<Candidate> all = {candidate(a, 2, &loads), candidate(b, 2, &loads), candidate(c, 2, &loads)};
    const Made whole = run(all, against, w, 1 << 30, 48);
    EXPECT_TRUE(whole.plan.together);
    EXPECT_EQ(loads, 3);
    bool one_by_one = false, in_file = false, again = false;
    for (uint64_t memory = whole.plan.least; memory < whole.plan.bytes; memory += (whole.plan.bytes - whole.plan.least) / 12) {
      loads = 0;
      const Made r = run(all, against, w, memory, 48);
      EXPECT_FALSE(r.plan.together);
      EXPECT_LE(r.plan.bytes, memory);
      expect_same(r.scores, whole.scores);
      one_by_one = true;
      in_file = in_file || !r.plan.passes[0].resident;
      again = again || loads > 3;
    }
    EXPECT_TRUE(one_by_one);
    EXPECT_TRUE(in_file);
    EXPECT_EQ(again, against);  // without a reference nothing is kept, and a model is loaded once
    EvaluateOptions o;
    o.memory = whole.plan.least - 1;
    const auto less = plan_evaluation(all, against, w, o);
    ASSERT_FALSE(less.ok());
    EXPECT_EQ(less.error().kind, ErrorKind::kUsage);
    EXPECT_NE(less.error().message.find("--memory"), std::string::npos) << less.error().message;
  }
}

TEST(Evaluate, ModelsOfOtherSizesBesideEachOther) {
  Size larger = kSize;
  larger.hidden = 96, larger.layers = 3;
  const Artifact a = random_model(larger, DType::kF32), b = random_model(kSize, DType::kF32, 77);
  const TokenWindows w = eval_windows(6, 20, kSize.vocab);
  const Made whole = run({candidate(a), candidate(b)}, true, w, 1 << 30), least = run({candidate(a), candidate(b)}, true, w, whole.plan.least);
  expect_same(least.scores, whole.scores);
  EXPECT_GT(divergence(whole.scores.models[1]).mean.value, 0);
}

TEST(Evaluate, ErrorsNameTheModelAndTheLayer) {
  Artifact a = random_model(kSize, DType::kF32), b = random_model(kSize, DType::kF32);
  b.path = "damaged.gguf";
  erase_tensor(&b, "blk.1.ffn_down.weight");
  std::vector<float> x = random_values(kSize.hidden * kSize.ffn, 3, 0.1f);
  x[70] = std::numeric_limits<float>::quiet_NaN();
  put(&b, "blk.1.ffn_down.weight", DType::kF32, Shape{kSize.hidden, kSize.ffn}, encode(x, DType::kF32, kSize.ffn));
  const TokenWindows w = eval_windows(2, 16, kSize.vocab);
  const std::vector<Candidate> all = {candidate(a), candidate(b)};
  const auto plan = plan_evaluation(all, true, w, {});
  ASSERT_TRUE(plan.ok());
  Scores s;
  const Status done = evaluate(all, true, w, *plan, {}, &s);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().kind, ErrorKind::kBadInput);
  for (const char* part : {"damaged.gguf", "layer 1", "NaN"}) EXPECT_NE(done.error().message.find(part), std::string::npos) << done.error().message;
}

TEST(Evaluate, StoppedItKeepsWhatWasScored) {
  const Artifact a = random_model(kSize, DType::kF32), b = random_model(kSize, DType::kQ8_0);
  const TokenWindows w = eval_windows(8, 16, kSize.vocab);
  const std::vector<Candidate> all = {candidate(a), candidate(b)};
  const Scores whole = run(all, true, w).scores;
  CancelToken cancel;
  EvaluateOptions o;
  o.batch = 32;  // two windows at a time
  o.cancel = &cancel;
  int64_t steps = 0;
  uint64_t last = 0;
  o.on_scored = [&](const Scores&) {
    if (++steps == 2) cancel.cancel();
  };
  o.on_progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    last = done;
  };
  const auto plan = plan_evaluation(all, true, w, o);
  ASSERT_TRUE(plan.ok() && plan->together);
  Scores s;
  const Status done = evaluate(all, true, w, *plan, o, &s);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(s.windows, (std::vector<int64_t>{4, 4}));
  for (size_t i = 0; i < static_cast<size_t>(4 * s.per_window); ++i) EXPECT_EQ(s.models[1][i].divergence, whole.models[1][i].divergence);
}

}  // namespace
}  // namespace ingot::calibrate
