// The forward pass against transformers' logits and tokens, against a plain f64 reference on odd sizes, and
// against itself: threads, batches and targets change no bit.
#include <gtest/gtest.h>

#include "infer/generate.h"
#include "infer/test_models.h"
#include "kernels/dispatch.h"

namespace ingot {
namespace {

using namespace testing_models;

std::unique_ptr<Model> load(const Artifact& a, int threads = 2, Arithmetic arithmetic = Arithmetic::kExact) {
  LoadOptions o;
  o.threads = threads;
  o.arithmetic = arithmetic;
  auto m = Model::load(a, o);
  EXPECT_TRUE(m.ok()) << m.error().message;
  return m.ok() ? std::move(*m) : nullptr;
}

std::vector<float> logits_of(const Model& m, const std::vector<int32_t>& tokens, int64_t batch = 512,
                             Logits which = Logits::kAll) {
  Session s(m, {.context = 0, .batch = batch, .cancel = nullptr, .on_product = {}});
  auto r = s.forward(tokens, which);
  EXPECT_TRUE(r.ok()) << r.error().message;
  return r.ok() ? std::vector<float>(r->begin(), r->end()) : std::vector<float>();
}

const Artifact& bundled() {
  static const Artifact a = bundled_model();
  return a;
}

std::vector<int32_t> expected_tokens(std::vector<float>* logits = nullptr) {
  auto t = read_safetensors(std::string(INGOT_SOURCE_DIR) + "/tests/data/infer/logits.safetensors");
  const auto& ids = t["tokens"].bytes;
  std::vector<int32_t> tokens(ids.size() / 4);
  std::memcpy(tokens.data(), ids.data(), ids.size());
  if (logits) {
    logits->resize(t["logits"].bytes.size() / 4);
    std::memcpy(logits->data(), t["logits"].bytes.data(), t["logits"].bytes.size());
  }
  return tokens;
}

// The same layers in f64, as one would write them on paper: no cache, no blocks.
std::vector<double> reference_logits(const Artifact& a, const Size& s, const std::vector<int32_t>& tokens) {
  auto get = [&](const std::string& name) {
    std::vector<double> out;
    const LazyTensor* t = a.find(name);
    if (!t) return out;
    const auto n = t->spec().shape.elements();
    std::vector<std::byte> bytes(bytes_of(t->spec()));
    EXPECT_TRUE(dynamic_cast<const Source*>(t->node.get())->read(Region::all(t->spec().shape), bytes).ok());
    std::vector<float> f(static_cast<size_t>(n));
    if (t->spec().type == DType::kF32)
      std::memcpy(f.data(), bytes.data(), bytes.size());
    else
      find_codec(t->spec().type)->decode(bytes.data(), n, f.data());
    out.assign(f.begin(), f.end());
    return out;
  };
  const size_t T = tokens.size(), H = static_cast<size_t>(s.hidden), D = static_cast<size_t>(s.head_dim);
  using Rows = std::vector<std::vector<double>>;
  auto mul = [&](const Rows& x, const std::vector<double>& w, const std::vector<double>& bias) {
    Rows y(x.size());
    const size_t k = x[0].size(), rows = w.size() / k;
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t r = 0; r < rows; ++r) {
        double v = bias.empty() ? 0 : bias[r];
        for (size_t i = 0; i < k; ++i) v += x[t][i] * w[r * k + i];
        y[t].push_back(v);
      }
    return y;
  };
  auto norm = [&](const Rows& x, const std::vector<double>& w) {
    Rows y = x;
    for (auto& row : y) {
      double q = 0;
      for (double v : row) q += v * v;
      const double inv = 1 / std::sqrt(q / static_cast<double>(row.size()) + static_cast<double>(1e-5f));
      for (size_t i = 0; i < row.size(); ++i) row[i] *= inv * w[i];
    }
    return y;
  };
  const size_t rope = static_cast<size_t>(s.rope_dim ? s.rope_dim : s.head_dim);
  auto rotate = [&](Rows& x) {
    for (size_t t = 0; t < T; ++t)
      for (size_t h = 0; h < x[t].size() / D; ++h)
        for (size_t i = 0; i < rope / 2; ++i) {
          const double angle = static_cast<double>(t) *
                               std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(rope));
          double &p = x[t][h * D + 2 * i], &q = x[t][h * D + 2 * i + 1];
          const double a0 = p, b0 = q;
          p = a0 * std::cos(angle) - b0 * std::sin(angle);
          q = b0 * std::cos(angle) + a0 * std::sin(angle);
        }
  };
  const auto embedding = get("token_embd.weight");
  Rows x(T);
  for (size_t t = 0; t < T; ++t)
    x[t].assign(embedding.begin() + static_cast<long>(static_cast<size_t>(tokens[t]) * H),
                embedding.begin() + static_cast<long>(static_cast<size_t>(tokens[t] + 1) * H));
  for (int64_t l = 0; l < s.layers; ++l) {
    const std::string p = "blk." + std::to_string(l) + ".";
    const Rows n = norm(x, get(p + "attn_norm.weight"));
    Rows q = mul(n, get(p + "attn_q.weight"), get(p + "attn_q.bias"));
    Rows k = mul(n, get(p + "attn_k.weight"), get(p + "attn_k.bias"));
    const Rows v = mul(n, get(p + "attn_v.weight"), get(p + "attn_v.bias"));
    rotate(q);
    rotate(k);
    Rows o(T, std::vector<double>(static_cast<size_t>(s.heads) * D));
    for (size_t t = 0; t < T; ++t)
      for (size_t h = 0; h < static_cast<size_t>(s.heads); ++h) {
        const size_t g = h / static_cast<size_t>(s.heads / s.kv_heads);
        std::vector<double> e(t + 1);
        double sum = 0;
        for (size_t j = 0; j <= t; ++j) {
          double dot = 0;
          for (size_t i = 0; i < D; ++i) dot += q[t][h * D + i] * k[j][g * D + i];
          sum += e[j] = std::exp(dot / std::sqrt(static_cast<double>(D)));
        }
        for (size_t j = 0; j <= t; ++j)
          for (size_t i = 0; i < D; ++i) o[t][h * D + i] += e[j] / sum * v[j][g * D + i];
      }
    const Rows ao = mul(o, get(p + "attn_output.weight"), {});
    for (size_t t = 0; t < T; ++t)
      for (size_t i = 0; i < H; ++i) x[t][i] += ao[t][i];
    const Rows fn = norm(x, get(p + "ffn_norm.weight"));
    Rows gate = mul(fn, get(p + "ffn_gate.weight"), {});
    const Rows up = mul(fn, get(p + "ffn_up.weight"), {});
    for (size_t t = 0; t < T; ++t)
      for (size_t i = 0; i < gate[t].size(); ++i)
        gate[t][i] = gate[t][i] / (1 + std::exp(-gate[t][i])) * up[t][i];
    const Rows down = mul(gate, get(p + "ffn_down.weight"), {});
    for (size_t t = 0; t < T; ++t)
      for (size_t i = 0; i < H; ++i) x[t][i] += down[t][i];
  }
  const Rows y =
      mul(norm(x, get("output_norm.weight")), get(s.tied ? "token_embd.weight" : "output.weight"), {});
  std::vector<double> out;
  for (const auto& row : y) out.insert(out.end(), row.begin(), row.end());
  return out;
}

TEST(Forward, LogitsOfTransformers) {
  const auto m = load(bundled());
  ASSERT_TRUE(m);
  std::vector<float> expected;
  const auto tokens = expected_tokens(&expected);
  const auto got = logits_of(*m, tokens);
  ASSERT_EQ(got.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - expected[i]));
  RecordProperty("max_abs_diff", std::to_string(worst));
  EXPECT_LT(worst, 2e-4);
}

TEST(Forward, GreedyTokensOfTransformers) {
  const auto m = load(bundled());
  ASSERT_TRUE(m);
  std::ifstream f(std::string(INGOT_SOURCE_DIR) + "/tests/data/infer/greedy-base.json");
  int compared = 0;
  for (const auto& row : nlohmann::json::parse(f)) {
    if (row["min_margin"].get<double>() < 0.02) continue;
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    const size_t prompt = ids.size() - 24;
    Session s(*m);
    auto g = generate(s, std::span(ids).first(prompt),
                      {.max_tokens = 24, .stop_ids = {1}, .sample = {}, .cancel = nullptr, .on_token = {}});
    ASSERT_TRUE(g.ok()) << g.error().message;
    EXPECT_EQ(g->ids, std::vector<int32_t>(ids.begin() + static_cast<long>(prompt), ids.end()))
        << row["prompt"];
    ++compared;
  }
  EXPECT_GE(compared, 5);
}

TEST(Forward, OddSizesAgainstF64) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 37; ++i) tokens.push_back((i * 29 + 3) % 101);
  const Size sizes[] = {
      {},
      {.hidden = 40, .heads = 6, .kv_heads = 2, .head_dim = 10, .ffn = 33, .tied = true},
      {.hidden = 17,
       .heads = 3,
       .kv_heads = 1,
       .head_dim = 22,
       .ffn = 19,
       .vocab = 103,
       .bias = true,
       .rope_dim = 8},
      {.layers = 1, .hidden = 1, .heads = 1, .kv_heads = 1, .head_dim = 2, .ffn = 1},
      {.layers = 1, .hidden = 600, .heads = 1, .kv_heads = 1, .head_dim = 130, .ffn = 1030},
  };
  for (const Size& s : sizes)
    for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      const Artifact a = random_model(s, type);
      const auto m = load(a);
      ASSERT_TRUE(m);
      const auto got = logits_of(*m, tokens);
      const auto want = reference_logits(a, s, tokens);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 2e-5 * (1 + std::abs(want[i]))) << "hidden " << s.hidden << " at " << i;
    }
}

TEST(Forward, ThreadsBatchesAndTargetsChangeNoBit) {
  for (DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
    const Size s{
        .layers = 2, .hidden = 256, .heads = 6, .kv_heads = 3, .head_dim = 128, .ffn = 768, .vocab = 1003};
    const Artifact a = random_model(s, type);
    std::vector<int32_t> tokens;
    for (int i = 0; i < 75; ++i) tokens.push_back((i * 131 + 3) % 1003);
    for (Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kFast}) {
      if (arithmetic == Arithmetic::kFast && !is_block_type(type)) continue;  // one token alone is multiplied in f32, several perhaps by tiles
      const auto one = load(a, 1, arithmetic), three = load(a, 3, arithmetic);
      ASSERT_TRUE(one && three);
      const auto whole = logits_of(*one, tokens);
      EXPECT_EQ(whole, logits_of(*three, tokens));
      EXPECT_EQ(whole, logits_of(*three, tokens, 7));
      Session step(*three);
      for (size_t t = 0; t < tokens.size(); ++t) {
        auto l = step.forward(std::span(tokens).subspan(t, 1));
        ASSERT_TRUE(l.ok());
        ASSERT_EQ(0, std::memcmp(l->data(), whole.data() + t * 1003, 1003 * 4)) << "token " << t;
      }
      const auto last = logits_of(*one, tokens, 20, Logits::kLast);
      EXPECT_EQ(last, std::vector<float>(whole.end() - 1003, whole.end()));
      if (arithmetic == Arithmetic::kFast) continue;
      for (const auto& target : supported_targets()) {
        ASSERT_TRUE(force_target(target));
        const std::vector<int32_t> few(tokens.begin(), tokens.begin() + 9);
        const auto part = logits_of(*three, few);
        EXPECT_EQ(0, std::memcmp(part.data(), whole.data(), part.size() * 4)) << target;
        ASSERT_TRUE(force_target(""));
      }
    }
  }
}

TEST(Forward, QuantizedWeightsGiveTheirDecodedValues) {
  // One row of a quantized model is the model of its decoded values: compare with the f64 reference over the
  // codec.
  const Size s{
      .layers = 1, .hidden = 256, .heads = 2, .kv_heads = 1, .head_dim = 128, .ffn = 256, .vocab = 101};
  const std::vector<int32_t> tokens = {1, 50, 100, 7, 7};
  for (DType type : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    if (!find_codec(type)) continue;
    const Artifact a = random_model(s, type);
    const auto want = reference_logits(a, s, tokens);
    for (Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kFast}) {
      const auto m = load(a, 2, arithmetic);
      ASSERT_TRUE(m);
      const auto got = logits_of(*m, tokens);
      double error = 0, energy = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        energy += want[i] * want[i];
      }
      EXPECT_LT(std::sqrt(error / energy), arithmetic == Arithmetic::kExact ? 1e-5 : 2e-2) << info(type).name;
    }
  }
}

TEST(Session, ContextAndTruncation) {
  const Size s{.context = 20};
  const auto m = load(random_model(s));
  ASSERT_TRUE(m);
  Session session(*m);
  const std::vector<int32_t> tokens = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  ASSERT_TRUE(session.forward(tokens).ok());
  EXPECT_EQ(session.position(), 12);
  auto full = session.forward(tokens);
  ASSERT_FALSE(full.ok());
  EXPECT_NE(full.error().message.find("context of 20"), std::string::npos) << full.error().message;
  EXPECT_EQ(session.position(), 12);
  session.truncate(5);
  auto again = session.forward(std::span(tokens).subspan(5));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(std::vector<float>(again->begin(), again->end()), logits_of(*m, tokens, 512, Logits::kLast));
  EXPECT_FALSE(session.forward({}).ok());
  const int32_t outside[] = {101}, negative[] = {-1};
  EXPECT_FALSE(session.forward(outside).ok());
  EXPECT_FALSE(session.forward(negative).ok());
}

// A scale beside a weight multiplies what products with it give, an expert's with its own.
TEST(Model, ScalesBesideWeights) {
  Artifact a = random_model({}), scaled = a;
  for (const auto& t : a.tensors) {
    if (!t.name.ends_with("attn_q.weight") && !t.name.ends_with("ffn_down.weight")) continue;
    put(&scaled, t.name.substr(0, t.name.size() - 6) + "scale", DType::kF32, {1}, encode({4.0f}, DType::kF32, 1));
    auto bytes = evaluate(t.node);
    ASSERT_TRUE(bytes.ok());
    for (size_t i = 0; i < bytes->size(); i += 4) {
      float x;
      std::memcpy(&x, bytes->data() + i, 4);
      x *= 4;  // exact
      std::memcpy(bytes->data() + i, &x, 4);
    }
    const TensorSpec spec = t.spec();
    const std::string name = t.name;
    a.tensors.edit([&](auto& all) {
      for (auto& o : all)
        if (o.name == name) o.node = make_memory_tensor(spec, *bytes);
    });
  }
  const std::vector<int32_t> tokens = {1, 5, 9, 20, 3};
  const auto with = load(scaled), folded = load(a), without = load(random_model({}));
  ASSERT_TRUE(with && folded && without);
  EXPECT_EQ(logits_of(*with, tokens), logits_of(*folded, tokens));
  EXPECT_NE(logits_of(*with, tokens), logits_of(*without, tokens));
}

TEST(Session, SeesEveryProduct) {
  const auto m = load(random_model({}));
  ASSERT_TRUE(m);
  std::map<std::string, int64_t> rows;
  SessionOptions o;
  o.on_product = [&](const WeightMatrix& w, const float*, int64_t n) {
    rows[w.name] += n;
    EXPECT_EQ(w.cols, w.name.find("down") != std::string::npos ? 80 : 48);
  };
  Session s(*m, o);
  const int32_t tokens[] = {1, 2, 3};
  ASSERT_TRUE(s.forward(tokens).ok());
  EXPECT_EQ(rows.size(), 15u);
  EXPECT_EQ(rows["blk.1.ffn_down.weight"], 3);
  EXPECT_EQ(rows["output.weight"], 1);
}

TEST(Session, NamesTheLayerOfANan) {
  Artifact a = random_model({});
  auto x = random_values(80 * 48, 3, 0.1f);
  x[100] = std::nanf("");
  for (size_t i = 0; i < a.tensors.size(); ++i)
    if (const LazyTensor& t = a.tensors[i]; t.name == "blk.1.ffn_up.weight")
      a.tensors.node(i) = make_memory_tensor(t.spec(), encode(x, DType::kF32, 48));
  const auto m = load(a);
  ASSERT_TRUE(m);
  Session s(*m);
  const int32_t tokens[] = {1};
  auto r = s.forward(tokens);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("feed-forward of layer 1 gives NaN or infinity: element [2, 4] of 'blk.1.ffn_up.weight' is NaN"),
            std::string::npos)
      << r.error().message;
  EXPECT_EQ(s.position(), 0);
}

TEST(Session, CancelStops) {
  const auto m = load(random_model({}));
  CancelToken cancel;
  cancel.cancel();
  Session s(*m, {.context = 0, .batch = 4, .cancel = &cancel, .on_product = {}});
  const int32_t tokens[] = {1};
  auto r = s.forward(tokens);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kInterrupted);
  auto g = generate(s, tokens, {});
  ASSERT_TRUE(g.ok());
  EXPECT_EQ(g->reason, StopReason::kCancelled);
  EXPECT_TRUE(g->ids.empty());
}

TEST(Generate, StopsForEveryReason) {
  const auto m = load(random_model({.context = 10}));
  const std::vector<int32_t> prompt = {1, 2, 3};
  auto run = [&](GenerateOptions o) {
    Session s(*m);
    auto g = generate(s, prompt, o);
    EXPECT_TRUE(g.ok()) << g.error().message;
    return g.ok() ? *g : Generation();
  };
  GenerateOptions o;
  o.max_tokens = 4;
  const Generation four = run(o);
  EXPECT_EQ(four.reason, StopReason::kLength);
  ASSERT_EQ(four.ids.size(), 4u);
  o.max_tokens = 0;
  EXPECT_TRUE(run(o).ids.empty());
  o.max_tokens = 100;
  const Generation all = run(o);
  EXPECT_EQ(all.reason, StopReason::kContext);
  EXPECT_EQ(all.ids.size(), 8u);  // seven fit, the eighth follows from the last position
  o.stop_ids = {four.ids[2]};
  const Generation stopped = run(o);
  EXPECT_EQ(stopped.reason, StopReason::kStopToken);
  EXPECT_EQ(std::count(stopped.ids.begin(), stopped.ids.end(), four.ids[2]), 0);
  o.stop_ids.clear();
  int seen = 0;
  o.on_token = [&](int32_t) { return ++seen < 2; };
  EXPECT_EQ(run(o).reason, StopReason::kCallback);
  EXPECT_EQ(seen, 2);
  o.sample.temperature = -1;
  Session s(*m);
  EXPECT_EQ(generate(s, prompt, o).error().kind, ErrorKind::kUsage);
  Session empty(*m);
  EXPECT_FALSE(generate(empty, {}, {}).ok());
}

}  // namespace
}  // namespace ingot
