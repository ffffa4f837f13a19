// Sums of squares: against a plain loop, whatever the threads; one input of several weights; bytes that are not of this model.
#include "calibrate/importance_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "infer/architecture_cases.h"
#include "infer/model.h"
#include "infer/test_models.h"

namespace ingot::calibrate {
namespace {

using testing_models::random_values;

const std::vector<WeightShape> kOfMatrix = {{"blk.0.attn_k.weight", 70, 1}, {"blk.0.attn_q.weight", 70, 1}, {"blk.0.ffn_down_exps.weight", 3, 4}};

std::vector<double> plain(const std::vector<float>& x, int64_t cols) {
  std::vector<double> out(static_cast<size_t>(cols));
  for (size_t i = 0; i < x.size(); ++i) out[i % out.size()] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return out;
}

TEST(ImportanceMatrix, SumsSquaresOfColumnsWhateverTheThreads) {
  for (const int64_t rows : {1, 3, 2000}) {
    const auto x = random_values(rows * 70, 5, 1);
    std::string first;
    for (const int threads : {1, 2, 7}) {
      ThreadPool pool(threads);
      ImportanceMatrix m(kOfMatrix);
      m.add(pool, "blk.0.attn_q.weight", 0, x.data(), rows, 70);
      const auto& e = m.entries().find("blk.0.attn_q.weight")->second;
      EXPECT_EQ(e.sums, plain(x, 70)) << rows;
      EXPECT_EQ(e.counts, std::vector<int64_t>{rows});
      EXPECT_EQ(m.entries().find("blk.0.attn_k.weight")->second.counts, std::vector<int64_t>{0});
      if (first.empty()) first = m.bytes();
      EXPECT_EQ(m.bytes(), first);
    }
  }
}

// Query, key and value have one input; what lies in the same buffer later is another one.
TEST(ImportanceMatrix, WeightsOfOneInputGetTheSameSumsAndANewInputIsSeen) {
  ThreadPool pool(2);
  ImportanceMatrix m(kOfMatrix);
  auto x = random_values(5 * 70, 1, 1);
  const auto add = [&](const char* name) { m.add(pool, name, 0, x.data(), 5, 70); };
  const auto sums = [&](const char* name) { return m.entries().find(name)->second.sums; };
  auto expected = plain(x, 70);
  add("blk.0.attn_q.weight");
  add("blk.0.attn_k.weight");
  EXPECT_EQ(sums("blk.0.attn_k.weight"), expected);
  // The same weight again: another batch, whatever is in it.
  add("blk.0.attn_q.weight");
  for (double& v : expected) v += v;
  EXPECT_EQ(sums("blk.0.attn_q.weight"), expected);
  // Another input in the same buffer, which only its last row tells.
  add("blk.0.attn_k.weight");
  for (int i = 0; i < 70; ++i) x[4 * 70 + static_cast<size_t>(i)] += 1;
  const auto before = sums("blk.0.attn_q.weight");
  add("blk.0.attn_q.weight");
  const auto more = plain(x, 70);
  for (size_t i = 0; i < 70; ++i) EXPECT_EQ(sums("blk.0.attn_q.weight")[i], before[i] + more[i]);
}

TEST(ImportanceMatrix, ExpertsAreApartAndWhatIsNotExpectedIsLeftOut) {
  ThreadPool pool(1);
  ImportanceMatrix m(kOfMatrix);
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  m.add(pool, "blk.0.ffn_down_exps.weight", 2, x.data(), 2, 3);
  m.add(pool, "output.weight", 0, x.data(), 2, 3);
  m.add(pool, "blk.0.ffn_down_exps.weight", 4, x.data(), 2, 3);
  EXPECT_EQ(m.entries().size(), 3u);
  const auto& e = m.entries().find("blk.0.ffn_down_exps.weight")->second;
  EXPECT_EQ(e.counts, (std::vector<int64_t>{0, 0, 2, 0}));
  EXPECT_EQ(e.sums, (std::vector<double>{0, 0, 0, 0, 0, 0, 17, 29, 45, 0, 0, 0}));
  const auto s = m.sums();
  EXPECT_EQ(s.entries.at("blk.0.ffn_down_exps.weight").counts, (std::vector<double>{0, 0, 2, 0}));
}

TEST(ImportanceMatrix, ASumThatNoF32HoldsIsNamed) {
  ThreadPool pool(1);
  ImportanceMatrix m(kOfMatrix);
  std::vector<float> x = {1, 3e19F, 1};
  m.add(pool, "blk.0.ffn_down_exps.weight", 1, x.data(), 1, 3);
  const Status s = m.check_finite();
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(s.error().message.find("'blk.0.ffn_down_exps.weight' (matrix 1)"), std::string::npos) << s.error().message;
  EXPECT_NE(s.error().message.find("column 1"), std::string::npos) << s.error().message;
  x[1] = std::nanf("");
  ImportanceMatrix n(kOfMatrix);
  n.add(pool, "blk.0.attn_q.weight", 0, random_values(70, 1, 1).data(), 1, 70);
  EXPECT_TRUE(n.check_finite().ok());
  n.add(pool, "blk.0.ffn_down_exps.weight", 0, x.data(), 1, 3);
  EXPECT_FALSE(n.check_finite().ok());
}

TEST(ImportanceMatrix, ComesBackFromItsBytesAndFromNoOthers) {
  ThreadPool pool(1);
  ImportanceMatrix m(kOfMatrix), n(kOfMatrix);
  const auto x = random_values(4 * 70, 9, 1);
  m.add(pool, "blk.0.attn_q.weight", 0, x.data(), 4, 70);
  m.add(pool, "blk.0.ffn_down_exps.weight", 3, x.data(), 4, 3);
  const std::string bytes = m.bytes();
  ASSERT_TRUE(n.restore(as_bytes(bytes)).ok());
  EXPECT_EQ(n.bytes(), bytes);
  const auto refused = [&](const std::string& text) {
    ImportanceMatrix o(kOfMatrix);
    const std::string before = o.bytes();
    const Status s = o.restore(as_bytes(text));
    EXPECT_FALSE(s.ok());
    EXPECT_EQ(o.bytes(), before);
    return s.ok() ? "" : s.error().message;
  };
  for (size_t size = 0; size < bytes.size(); ++size) (void)refused(bytes.substr(0, size));
  (void)refused(bytes + "x");
  // The last double of the bytes: NaN, and a negative sum.
  for (const double odd : {std::nan(""), -1.0, std::numeric_limits<double>::infinity()}) {
    std::string text = bytes;
    std::memcpy(text.data() + text.size() - sizeof odd, &odd, sizeof odd);
    EXPECT_NE(refused(text).find("'blk.0.ffn_down_exps.weight'"), std::string::npos);
  }
  for (const WeightShape& other : {WeightShape{"blk.0.attn_k.weight", 71, 1}, {"blk.0.attn_k.weight", 70, 2}, {"blk.1.attn_k.weight", 70, 1}}) {
    auto shapes = kOfMatrix;
    shapes[0] = other;
    (void)refused(ImportanceMatrix(shapes).bytes());
  }
  (void)refused(ImportanceMatrix({kOfMatrix[0], kOfMatrix[1]}).bytes());
}

// The names that are expected of a file's tensors are those that the engine multiplies with, in every architecture.
TEST(ProductWeights, AreThoseThatTheEngineHas) {
  for (const std::string& name : testing_models::case_names()) {
    const Artifact gguf = testing_models::gguf_of(testing_models::load_case(name));
    const auto config = read_model_config(gguf);
    if (!config.ok()) continue;  // a model that is converted but not run
    std::map<std::string, std::pair<int64_t, int64_t>> engine, found;
    for (int64_t l = 0; l < config->layers; ++l) {
      const auto w = load_layer(gguf, *config, l, {});
      ASSERT_TRUE(w.ok()) << name << w.error().message;
      const auto add = [&](const WeightMatrix& m) {
        if (m) engine[m.name] = {m.cols, m.parts};
      };
      for (const auto* p : {&w->q, &w->k, &w->v, &w->qkv, &w->attn_output, &w->gate, &w->up, &w->down, &w->shared_gate, &w->shared_up, &w->shared_down}) add(p->w);
      add(w->router);
      for (const auto* list : {&w->expert_gate, &w->expert_up, &w->expert_down})
        for (const auto& m : *list) add(m);
    }
    for (const WeightShape& s : product_weights(gguf, *config, false)) found[s.name] = {s.cols, s.matrices};
    EXPECT_EQ(found, engine) << name;
    const auto with = product_weights(gguf, *config, true);
    ASSERT_EQ(with.size(), found.size() + 1);
    EXPECT_EQ(with.back().name, gguf.find("output.weight") ? "output.weight" : "token_embd.weight");
    EXPECT_EQ(with.back().cols, config->hidden);
  }
}

}  // namespace
}  // namespace ingot::calibrate
