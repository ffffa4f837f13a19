// Windows run together against a session for each, and layers that stay in their file against layers in memory: the same bits.
#include "infer/windows.h"

#include <gtest/gtest.h>

#include <atomic>

#include "infer/architecture_cases.h"
#include "infer/layer_stream.h"
#include "infer/session.h"
#include "infer/test_models.h"

namespace ingot {
namespace {

using namespace testing_models;

std::unique_ptr<Model> load(const Artifact& a, bool resident = true, int threads = 2, Arithmetic arithmetic = Arithmetic::kExact) {
  LoadOptions o;
  o.threads = threads;
  o.arithmetic = arithmetic;
  o.resident = resident;
  auto m = Model::load(a, o);
  EXPECT_TRUE(m.ok()) << m.error().message;
  return m.ok() ? std::move(*m) : nullptr;
}

std::vector<int32_t> some_tokens(int64_t n, int64_t vocab, uint64_t seed = 5) {
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int32_t>(random_unit(seed, i) * static_cast<double>(vocab));
  return out;
}

// Logits of every window from `first` on, by a session for each.
std::vector<float> by_sessions(const Model& m, const std::vector<int32_t>& ids, int64_t length, int64_t first) {
  std::vector<float> out;
  for (size_t at = 0; at < ids.size(); at += static_cast<size_t>(length)) {
    SessionOptions o;
    o.context = length;
    Session s(m, o);
    const auto r = s.forward(std::span(ids).subspan(at, static_cast<size_t>(length)), Logits::kAll);
    EXPECT_TRUE(r.ok()) << r.error().message;
    if (r.ok()) out.insert(out.end(), r->begin() + first * m.config().vocab, r->end());
  }
  return out;
}

std::vector<float> by_windows(const Model& m, const std::vector<int32_t>& ids, int64_t length, int64_t first, int64_t batch) {
  WindowsOptions o;
  o.batch = batch;
  WindowRunner run(m, o);
  const auto states = run.states(ids, length, first);
  EXPECT_TRUE(states.ok()) << states.error().message;
  if (!states.ok()) return {};
  const int64_t rows = static_cast<int64_t>(ids.size()) / length * (length - first);
  std::vector<float> out(static_cast<size_t>(rows * m.config().vocab));
  // In pieces, as an evaluation asks for them.
  for (int64_t r = 0; r < rows; r += 7) {
    const Status done = run.logits(states->data() + r * m.config().hidden, std::min<int64_t>(7, rows - r), out.data() + r * m.config().vocab);
    EXPECT_TRUE(done.ok()) << done.error().message;
  }
  return out;
}

TEST(Windows, AreWhatASessionGivesForEach) {
  for (const DType type : {DType::kF32, DType::kQ8_0}) {
    const auto m = load(random_model({.layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96, .vocab = 101, .context = 256}, type), true, 2, is_block_type(type) ? Arithmetic::kFast : Arithmetic::kExact);
    ASSERT_TRUE(m);
    for (const int64_t length : {1, 5, 33, 64}) {
      const auto ids = some_tokens(length * 5, 101);
      for (const int64_t first : {int64_t{0}, length / 2}) {
        const auto expected = by_sessions(*m, ids, length, first);
        for (const int64_t batch : {1, 16, 70, 512}) EXPECT_EQ(by_windows(*m, ids, length, first, batch), expected) << length << " from " << first << " by " << batch;
      }
    }
  }
}

TEST(Windows, OfEveryArchitectureAndWithLayersInTheFile) {
  for (const std::string& name : case_names()) {
    const Case c = load_case(name);
    const Artifact a = gguf_of(c);
    const auto m = load(a), streamed = load(a, false);
    ASSERT_TRUE(m && streamed) << c.name;
    const int64_t length = std::min<int64_t>(40, m->config().usable);
    const auto ids = some_tokens(3 * length, m->config().vocab);
    const auto expected = by_sessions(*m, ids, length, 0);
    EXPECT_EQ(by_windows(*m, ids, length, 0, 512), expected) << c.name;
    EXPECT_EQ(by_windows(*streamed, ids, length, 0, length + 3), expected) << c.name;
    EXPECT_EQ(by_sessions(*streamed, ids, length, 0), expected) << c.name;
  }
}

// Whatever is multiplied together, a mixture's experts with one row or with many, by whatever the machine has.
TEST(Windows, GroupsAndThreadsChangeNoBitInAnyArithmetic) {
  for (const std::string name : {"mixtral", "qwen2moe", "llama"}) {
    if (const auto names = case_names(); std::find(names.begin(), names.end(), name) == names.end()) continue;
    const Artifact a = gguf_of(load_case(name));
    const auto m = load(a, true, 1, Arithmetic::kFast), other = load(a, false, 3, Arithmetic::kFast);
    ASSERT_TRUE(m && other) << name;
    const int64_t length = std::min<int64_t>(21, m->config().usable);
    const auto ids = some_tokens(6 * length, m->config().vocab);
    const auto alone = by_windows(*m, ids, length, 0, length);
    EXPECT_EQ(by_windows(*m, ids, length, 0, 512), alone) << name;
    EXPECT_EQ(by_windows(*other, ids, length, 0, 3 * length), alone) << name;
    EXPECT_EQ(by_windows(*m, ids, length, 0, 1), alone) << name;
  }
}

TEST(Windows, TellWhatTheyAreGiven) {
  const auto m = load(random_model({}));
  ASSERT_TRUE(m);
  WindowRunner run(*m);
  const auto refused = [&](const std::vector<int32_t>& ids, int64_t length, int64_t first) {
    const auto r = run.states(ids, length, first);
    return r.ok() ? std::string("taken") : r.error().message;
  };
  EXPECT_EQ(refused({1, 2, 3}, 2, 0), "3 tokens are no windows of 2 tokens from position 0 on");
  EXPECT_EQ(refused({}, 2, 0), "0 tokens are no windows of 2 tokens from position 0 on");
  EXPECT_EQ(refused({1, 2}, 2, 2), "2 tokens are no windows of 2 tokens from position 2 on");
  EXPECT_EQ(refused({1, 101}, 2, 0), "token 101 is outside the model's vocabulary of 101: the tokenizer is not this model's");
  EXPECT_EQ(refused(std::vector<int32_t>(257, 1), 257, 0), "windows of 257 tokens do not fit the model's context of 256");
  EXPECT_EQ(refused({1, 2}, 2, 0), "taken");  // after all that
}

TEST(Windows, ShowInputsInTheirOrderAndStop) {
  const Artifact a = random_model({});
  const auto m = load(a, false);
  ASSERT_TRUE(m);
  std::vector<std::string> seen;
  CancelToken cancel;
  int64_t done = 0;
  WindowsOptions o;
  o.batch = 8;
  o.cancel = &cancel;
  o.on_product = [&](const WeightMatrix& w, const float*, int64_t rows) {
    EXPECT_EQ(rows, 8);
    if (w.name.ends_with("attn_q.weight")) seen.push_back(w.name);
  };
  o.on_progress = [&](int64_t n, int64_t all) {
    EXPECT_GT(n, done);
    EXPECT_EQ(all, 32);
    done = n;
  };
  WindowRunner run(*m, o);
  const auto ids = some_tokens(16, 101);
  ASSERT_TRUE(run.states(ids, 4).ok());
  // A layer sees all windows before the next one.
  EXPECT_EQ(seen, (std::vector<std::string>{"blk.0.attn_q.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight", "blk.1.attn_q.weight"}));
  EXPECT_EQ(done, 32);
  cancel.cancel();
  const auto stopped = run.states(ids, 4);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
}

TEST(Windows, NameTheWeightOfALayerThatIsNotInMemory) {
  Artifact a = random_model({});
  auto x = random_values(80 * 48, 3, 0.1f);
  x[48 * 5 + 7] = std::nanf("");
  erase_tensor(&a, "blk.1.ffn_up.weight");
  put(&a, "blk.1.ffn_up.weight", DType::kF32, {80, 48}, encode(x, DType::kF32, 48));
  const auto m = load(a, false);
  ASSERT_TRUE(m);
  WindowRunner run(*m);
  const auto r = run.states(some_tokens(8, 101), 8);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().message, "the feed-forward of layer 1 gives NaN or infinity: element [5, 7] of 'blk.1.ffn_up.weight' is NaN; the weights are damaged");
}

TEST(LayerStream, LoadsAheadInTurnAndAnewOutOfTurn) {
  std::atomic<int> loads{0};
  LayerStream s(3, [&](int64_t l) -> Result<LayerWeights> {
    ++loads;
    if (l == 2 && loads < 4) return bad_input("layer {} is gone", l);
    LayerWeights w;
    w.shared_router = {static_cast<float>(l)};
    return w;
  });
  const auto number = [&](int64_t l) {
    const auto r = s.get(l);
    return r.ok() ? (*r)->shared_router.at(0) : -1.0f;
  };
  EXPECT_EQ(number(0), 0);
  EXPECT_EQ(number(1), 1);
  EXPECT_EQ(number(2), -1);  // its load failed
  EXPECT_EQ(number(2), 2);
  EXPECT_EQ(number(0), 0);
  EXPECT_EQ(number(0), 0);
  EXPECT_EQ(number(1), 1);
}

TEST(WeightBytes, OfAModelThatIsNotResidentAreTwoLayers) {
  const Artifact a = random_model({.layers = 4});
  uint64_t all = 0, layer = 0;
  for (const auto& t : a.tensors) {
    all += bytes_of(t.spec());
    if (t.name.starts_with("blk.2.")) layer += bytes_of(t.spec());
  }
  EXPECT_EQ(weight_bytes(a), all);
  EXPECT_EQ(weight_bytes(a, false), all - 2 * layer);
}

// What a file may have beside its model.
TEST(WeightBytes, OfATensorOfNothingAreNone) {
  Artifact a = random_model({.layers = 1, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96, .vocab = 33, .context = 64}, DType::kQ8_0);
  const uint64_t before = weight_bytes(a, true, Arithmetic::kFast);
  a.tensors.push_back({"extra.weight", make_memory_tensor({DType::kQ4_0, {5, 0}}, {})});
  EXPECT_EQ(weight_bytes(a, true, Arithmetic::kFast), before);
}

}  // namespace
}  // namespace ingot
