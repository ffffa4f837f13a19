// Collecting over windows: against sessions that are watched, the same bits whatever the groups, threads and memory, and after being stopped.
#include "calibrate/collect.h"

#include <gtest/gtest.h>

#include <map>

#include "infer/architecture_cases.h"
#include "infer/session.h"
#include "infer/test_models.h"

namespace ingot::calibrate {
namespace {

using testing_models::case_names;
using testing_models::gguf_of;
using testing_models::load_case;
using testing_models::random_model;

std::unique_ptr<Model> load(const Artifact& a, int threads = 2, bool resident = true) {
  LoadOptions o;
  o.arithmetic = Arithmetic::kExact;
  o.threads = threads;
  o.resident = resident;
  auto m = Model::load(a, o);
  EXPECT_TRUE(m.ok()) << m.error().message;
  return m.ok() ? std::move(*m) : nullptr;
}

TokenWindows windows_of(int64_t count, int64_t length, int64_t vocab) {
  TokenWindows w;
  w.length = length;
  for (int64_t i = 0; i < count * length; ++i) w.ids.push_back(static_cast<int32_t>(random_unit(3, static_cast<uint64_t>(i)) * static_cast<double>(vocab)));
  return w;
}

Collected collected(const Artifact& a, const Model& m, const TokenWindows& w, const CollectOptions& o = {}) {
  Collected c{ImportanceMatrix(product_weights(a, m.config(), !o.output.empty())), 0};
  const Status s = collect(m, w, o, &c);
  EXPECT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(c.windows, w.count());
  return c;
}

Artifact mixture() {
  for (const std::string& name : case_names())
    if (name.find("moe") != std::string::npos) {
      Artifact a = gguf_of(load_case(name));
      if (read_model_config(a).ok()) return a;
    }
  ADD_FAILURE() << "no mixture among the models";
  return {};
}

// A session for each window, every input squared and summed in a plain loop.
TEST(Collect, IsWhatSessionsShowInEveryArchitecture) {
  for (const std::string& name : case_names()) {
    const Artifact a = gguf_of(load_case(name));
    if (!read_model_config(a).ok()) continue;
    const auto m = load(a);
    ASSERT_TRUE(m) << name;
    const TokenWindows w = windows_of(5, 12, m->config().vocab);
    const Collected c = collected(a, *m, w);
    std::map<std::string, std::vector<double>> sums;
    std::map<std::string, std::vector<int64_t>> counts;
    for (int64_t k = 0; k < w.count(); ++k) {
      SessionOptions o;
      o.context = w.length;  // rotations may go by it
      o.on_product = [&](const WeightMatrix& weight, const float* x, int64_t rows) {
        if (weight.name == "output.weight") return;
        auto& s = sums[weight.name];
        s.resize(static_cast<size_t>(weight.cols * weight.parts));
        auto& n = counts[weight.name];
        n.resize(static_cast<size_t>(weight.parts));
        n[static_cast<size_t>(weight.part)] += rows;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < weight.cols; ++i) s[static_cast<size_t>(weight.part * weight.cols + i)] += static_cast<double>(x[r * weight.cols + i]) * static_cast<double>(x[r * weight.cols + i]);
      };
      Session session(*m, o);
      ASSERT_TRUE(session.forward(std::span(w.ids).subspan(static_cast<size_t>(k * w.length), static_cast<size_t>(w.length)), Logits::kNone).ok());
    }
    ASSERT_EQ(c.sums.entries().size(), sums.size()) << name;
    for (const auto& [tensor, e] : c.sums.entries()) {
      ASSERT_TRUE(sums.contains(tensor)) << name << tensor;
      EXPECT_EQ(e.counts, counts[tensor]) << name << tensor;
      for (size_t i = 0; i < e.sums.size(); ++i) EXPECT_NEAR(e.sums[i], sums[tensor][i], 1e-12 * sums[tensor][i]) << name << tensor << i;
    }
  }
}

TEST(Collect, TheBitsDependOnNoGroupsThreadsOrMemory) {
  for (const bool experts : {false, true}) {
    const Artifact a = experts ? mixture() : random_model({.layers = 2, .hidden = 48, .heads = 4, .kv_heads = 2, .head_dim = 12, .ffn = 80, .vocab = 101});
    std::string first;
    for (const int threads : {1, 2, 7})
      for (const uint64_t memory : {uint64_t{0}, uint64_t{1} << 30})
        for (const bool resident : {true, false})
          for (const double seconds : {0.0, 1000.0}) {
            const auto m = load(a, threads, resident);
            ASSERT_TRUE(m);
            CollectOptions o;
            o.batch = 40;  // three windows of twelve tokens
            o.memory = memory, o.resident = resident, o.group_seconds = seconds;
            int groups = 0;
            o.on_group = [&] { ++groups; };
            const std::string bytes = collected(a, *m, windows_of(17, 12, m->config().vocab), o).sums.bytes();
            if (first.empty()) first = bytes;
            EXPECT_EQ(bytes == first, true) << threads << " " << memory << " " << resident << " " << seconds;
            if (memory == 0 || (resident && seconds == 0)) EXPECT_EQ(groups, 6);  // of three windows each
            else if (seconds > 0) EXPECT_EQ(groups, 3);                            // 3, 6 and the last eight
          }
  }
}

TEST(Collect, AWindowLongerThanABatchIsCut) {
  const Artifact a = random_model({});
  const auto m = load(a);
  const TokenWindows w = windows_of(3, 100, 101);
  CollectOptions o;
  o.batch = 32;
  const Collected c = collected(a, *m, w, o);
  for (const auto& [name, e] : c.sums.entries()) EXPECT_EQ(e.counts, std::vector<int64_t>{300}) << name;
}

TEST(Collect, StoppedAnywhereItGoesOnToTheSameBits) {
  const Artifact a = mixture();
  const auto m = load(a);
  const TokenWindows w = windows_of(9, 16, m->config().vocab);
  CollectOptions o;
  o.batch = 32, o.group_seconds = 0;
  const std::string whole = collected(a, *m, w, o).sums.bytes();
  for (int64_t stop = 1; stop < 9 * 16; stop += 7) {
    CancelToken cancel;
    CollectOptions stopped = o;
    stopped.cancel = &cancel;
    stopped.on_progress = [&](int64_t done, int64_t total) {
      EXPECT_EQ(total, 9 * 16);
      if (done >= stop) cancel.cancel();
    };
    Collected c{ImportanceMatrix(product_weights(a, m->config(), false)), 0};
    const Status s = collect(*m, w, stopped, &c);
    if (!s.ok()) {
      EXPECT_EQ(s.error().kind, ErrorKind::kInterrupted);
      EXPECT_EQ(c.windows % 2, 0);
      EXPECT_LT(c.windows, 9);
    }
    // Through its bytes, as another process finds it.
    Collected again{ImportanceMatrix(product_weights(a, m->config(), false)), c.windows};
    ASSERT_TRUE(again.sums.restore(as_bytes(c.sums.bytes())).ok());
    ASSERT_TRUE(collect(*m, w, o, &again).ok());
    EXPECT_EQ(again.sums.bytes() == whole, true) << stop;
  }
}

TEST(Collect, ExpertsAreCountedWithTheTokensThatTheyGot) {
  const Artifact a = mixture();
  const auto m = load(a);
  const TokenWindows w = windows_of(2, 16, m->config().vocab);
  const Collected c = collected(a, *m, w);
  const auto& e = c.sums.entries().find("blk.0.ffn_up_exps.weight")->second;
  EXPECT_EQ(static_cast<int64_t>(e.counts.size()), m->config().experts);
  int64_t all = 0;
  for (const int64_t n : e.counts) all += n;
  EXPECT_EQ(all, 32 * m->config().experts_used);
  for (const char* other : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight"}) EXPECT_EQ(c.sums.entries().find(other)->second.counts, e.counts);
  // One token reaches few of them: the others are there, with nothing.
  const Collected one = collected(a, *m, windows_of(1, 1, m->config().vocab));
  const auto& few = one.sums.entries().find("blk.0.ffn_up_exps.weight")->second;
  EXPECT_EQ(std::count(few.counts.begin(), few.counts.end(), 1), m->config().experts_used);
  EXPECT_EQ(std::count(few.counts.begin(), few.counts.end(), 0), m->config().experts - m->config().experts_used);
}

TEST(Collect, TheOutputsInputsAreTheStatesAfterTheLastNorm) {
  for (const bool tied : {false, true}) {
    const Artifact a = random_model({.tied = tied});
    const auto m = load(a);
    const TokenWindows w = windows_of(4, 10, 101);
    CollectOptions o;
    o.output = tied ? "token_embd.weight" : "output.weight";
    const Collected c = collected(a, *m, w, o);
    const auto it = c.sums.entries().find(o.output);
    ASSERT_NE(it, c.sums.entries().end());
    EXPECT_EQ(it->second.counts, std::vector<int64_t>{40});
    std::vector<double> sums(48);
    for (int64_t k = 0; k < 4; ++k) {
      SessionOptions so;
      so.on_product = [&](const WeightMatrix& weight, const float* x, int64_t rows) {
        for (int64_t i = 0; weight.name == "output.weight" && i < rows * 48; ++i) sums[static_cast<size_t>(i % 48)] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      };
      Session session(*m, so);
      ASSERT_TRUE(session.forward(std::span(w.ids).subspan(static_cast<size_t>(k * 10), 10), Logits::kAll).ok());
    }
    for (size_t i = 0; i < 48; ++i) EXPECT_NEAR(it->second.sums[i], sums[i], 1e-12 * sums[i]);
  }
}

}  // namespace
}  // namespace ingot::calibrate
