// The angles of every kind of rope scaling, from a directory's configuration by way of GGUF's keys, against transformers'
// formulas (modeling_rope_utils.py) worked out here in f64.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/formats_testing.h"
#include "formats/json.h"
#include "formats/outputs.h"
#include "infer/model.h"
#include "infer/session.h"
#include "infer/test_models.h"
#include "transform/gguf_map.h"

namespace ingot {
namespace {

LoadOptions exact() {
  LoadOptions o;
  o.arithmetic = Arithmetic::kExact;
  return o;
}

using namespace testing_models;

constexpr int kDim = 32, kContext = 2048;

struct Angles {
  std::vector<double> frequencies;
  double magnitude = 1;
};

double number_or(const Json& j, const char* key, double other) { return j.contains(key) && j[key].is_number() ? j[key].get<double>() : other; }

Angles transformers_angles(const Json& rope) {
  Angles a;
  const std::string type = rope.value("rope_type", rope.value("type", "default"));
  const double base = number_or(rope, "rope_theta", 10000), factor = number_or(rope, "factor", 1),
               original = number_or(rope, "original_max_position_embeddings", kContext);
  std::vector<double> pos;
  for (int i = 0; i < kDim; i += 2) pos.push_back(std::pow(base, static_cast<double>(i) / kDim));
  const auto mscale = [](double scale, double m) { return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1; };
  const auto correction = [&](double turns) { return kDim * std::log(original / (turns * 2 * M_PI)) / (2 * std::log(base)); };
  const double low = std::max(std::floor(correction(number_or(rope, "beta_fast", 32))), 0.0);
  double high = std::min(std::ceil(correction(number_or(rope, "beta_slow", 1))), kDim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < pos.size(); ++i) {
    double f = 1 / pos[i];
    if (type == "linear") f /= factor;
    if (type == "yarn") {
      const double extrapolated = 1 - std::min(1.0, std::max(0.0, (static_cast<double>(i) - low) / (high - low)));
      f = f / factor * (1 - extrapolated) + f * extrapolated;
    }
    if (type == "longrope") f /= rope["short_factor"][i].get<double>();
    a.frequencies.push_back(f);
  }
  if (type == "yarn") {
    const double m = number_or(rope, "mscale", 0), all = number_or(rope, "mscale_all_dim", 0);
    a.magnitude = number_or(rope, "attention_factor", m != 0 && all != 0 ? mscale(factor, m) / mscale(factor, all) : mscale(factor, 1));
  }
  if (type == "longrope") {
    const double f = number_or(rope, "factor", kContext / original);
    a.magnitude = number_or(rope, "attention_factor", f <= 1 ? 1 : std::sqrt(1 + std::log(f) / std::log(original)));
  }
  return a;
}

Json long_lists() {
  Json s = Json::array(), l = Json::array();
  for (int i = 0; i < kDim / 2; ++i) s.push_back(1 + i * 0.03), l.push_back(1 + i * 0.7);
  return {{"rope_type", "longrope"}, {"short_factor", s}, {"long_factor", l}, {"original_max_position_embeddings", 512}};
}

std::vector<Json> kinds() {
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}};
  const auto with = [](Json j, const Json& more) {
    j.update(more);
    return j;
  };
  return {{{"rope_type", "default"}, {"rope_theta", 5e5}},
          {{"rope_type", "linear"}, {"factor", 2.5}},
          {{"type", "linear"}, {"factor", 8}},
          {{"rope_type", "dynamic"}, {"factor", 4.0}},
          yarn,
          with(yarn, {{"beta_fast", 32}, {"beta_slow", 1}, {"attention_factor", 1.138629436111989}}),
          with(yarn, {{"beta_fast", 8.0}, {"beta_slow", 2.0}, {"rope_theta", 1e6}}),
          with(yarn, {{"attention_factor", 1.0}}),
          with(yarn, {{"mscale", 0.707}, {"mscale_all_dim", 1.5}}),
          with(yarn, {{"factor", 0.5}}),
          with(yarn, {{"original_max_position_embeddings", 4}}),  // no pair turns that often: all but the first are stretched
          long_lists(),
          with(long_lists(), {{"factor", 16.0}}),
          with(long_lists(), {{"attention_factor", 1.25}})};
}

Artifact example_with(const Json& members) {
  auto a = open_model(local_store(), INGOT_SOURCE_DIR "/examples/tiny-llama-base");
  EXPECT_TRUE(a.ok()) << a.error().message;
  Json config = Json::parse(a->files["config.json"]);
  config.erase("rope_parameters");
  config.update(members);
  a->files["config.json"] = config.dump();
  return *a;
}

void expect_angles(const Model& model, const Angles& want, const std::string& what) {
  ASSERT_EQ(model.rope_frequencies(Model::Angles::kUsual).size(), want.frequencies.size());
  for (size_t i = 0; i < want.frequencies.size(); ++i)
    EXPECT_NEAR(model.rope_frequencies(Model::Angles::kUsual)[i], want.frequencies[i], 4e-7 * want.frequencies[i]) << what << " " << i;
  EXPECT_NEAR(model.config().rope_magnitude, want.magnitude, 3e-7) << what;
}

TEST(Rope, EachKindHasTransformersAnglesFromTheDirectoryAndFromItsFile) {
  for (const Json& rope : kinds())
    for (const char* place : {"rope_parameters", "rope_scaling"}) {
      Json members = {{place, rope}};
      if (!rope.contains("rope_theta")) members["rope_theta"] = 10000.0;
      auto gguf = transform::to_gguf(example_with(members));
      ASSERT_TRUE(gguf.ok()) << rope.dump() << gguf.error().message;
      auto model = Model::load(*gguf, exact());
      ASSERT_TRUE(model.ok()) << rope.dump() << model.error().message;
      expect_angles(**model, transformers_angles(rope), rope.dump());
      EXPECT_EQ((*model)->config().usable, kContext);
      if (place == std::string("rope_scaling")) continue;
      auto store = make_memory_store();
      testing::write_output(gguf_output(*gguf, *store, "m.gguf"));
      auto again = open_model(*store, "m.gguf");
      ASSERT_TRUE(again.ok()) << again.error().message;
      auto read = Model::load(*again, exact());
      ASSERT_TRUE(read.ok()) << read.error().message;
      expect_angles(**read, transformers_angles(rope), "file of " + rope.dump());
    }
}

std::vector<float> logits(const Artifact& a) {
  auto m = Model::load(a, exact());
  EXPECT_TRUE(m.ok()) << m.error().message;
  if (!m.ok()) return {};
  Session s(**m);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6};
  auto r = s.forward(tokens);
  EXPECT_TRUE(r.ok()) << r.error().message;
  return {r->begin(), r->end()};
}

// Cosines and sines times m are scores times m * m, as are queries times m * m.
TEST(Rope, TheMagnitudeMultipliesQueriesAndKeys) {
  const Artifact plain = random_model({});
  Artifact louder = plain, queries = plain;
  set(&louder, "llama.rope.scaling.attn_factor", {1.5f});
  for (int l = 0; l < 2; ++l) {
    const std::string name = "blk." + std::to_string(l) + ".attn_q.weight";
    auto v = testing::to_floats(*evaluate(plain.find(name)->node));
    for (float& x : v) x *= 2.25f;
    testing::set_node(&queries, name, testing::f32_tensor({48, 48}, v));
  }
  const auto a = logits(louder), b = logits(queries), c = logits(plain);
  ASSERT_EQ(a.size(), b.size());
  EXPECT_NE(a, c);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-5) << i;
}

void refused(const std::string& key, MetaValue value, const std::string& expected) {
  Artifact a = random_model({});
  set(&a, "llama.rope.scaling.type", {std::string("yarn")});
  set(&a, "llama.rope.scaling.factor", {4.0f});
  EXPECT_TRUE(Model::load(a).ok());
  set(&a, key, std::move(value));
  auto m = Model::load(a, exact());
  ASSERT_FALSE(m.ok()) << key;
  EXPECT_NE(m.error().message.find(expected), std::string::npos) << m.error().message;
}

TEST(Rope, KeysThatTheEngineCannotFollowAreNamed) {
  refused("llama.rope.scaling.yarn_ext_factor", {0.5f}, "yarn_ext_factor is 0.5");
  refused("llama.rope.scaling.yarn_attn_factor", {2.0f}, "yarn_attn_factor is 2");
  refused("llama.rope.scaling.yarn_log_multiplier", {0.1f}, "yarn_log_multiplier is 0.1");
  refused("llama.rope.scaling.yarn_beta_fast", {0.0f}, "yarn_beta_fast is 0");
  refused("llama.rope.scaling.attn_factor", {std::nanf("")}, "attn_factor");
  refused("llama.rope.freq_base", {1.0f}, "freq_base is 1");
  refused("llama.rope.scaling.original_context_length", {uint32_t{0}}, "original_context_length is 0");
  refused("llama.rope.scaling.type", {std::string("longrope")}, "rope_factors_short.weight");
  refused("llama.rope.scaling.type", {std::string("ntk")}, "'ntk'");
  // What llama.cpp's converter may write of the usual yarn.
  Artifact a = random_model({});
  set(&a, "llama.rope.scaling.type", {std::string("yarn")});
  set(&a, "llama.rope.scaling.factor", {4.0f});
  const auto want = logits(a);
  for (const auto& [key, value] :
       {std::pair{"yarn_ext_factor", 1.0f}, {"yarn_attn_factor", 1.1386294f}, {"yarn_attn_factor", 1.0f}, {"yarn_beta_fast", 32.0f}}) {
    Artifact b = a;
    set(&b, std::string("llama.rope.scaling.") + key, {value});
    EXPECT_EQ(logits(b), want) << key;
  }
}

// Tokens before the window are as if they were not there.
TEST(Rope, AWindowIsWhatAttentionSees) {
  Artifact a = random_model({});
  const auto last = [](const Artifact& artifact, std::vector<int32_t> tokens, int64_t batch) {
    auto m = Model::load(artifact);
    EXPECT_TRUE(m.ok()) << m.error().message;
    SessionOptions o;
    o.batch = batch;
    Session s(**m, o);
    auto r = s.forward(tokens);
    EXPECT_TRUE(r.ok()) << r.error().message;
    return std::vector<float>(r->begin(), r->end());
  };
  std::vector<int32_t> tokens;
  for (int32_t t = 0; t < 60; ++t) tokens.push_back((t * 7) % 50);
  const auto whole = last(a, tokens, 512);
  set(&a, "llama.attention.sliding_window", {uint32_t{1000}});  // beyond the context
  EXPECT_EQ(last(a, tokens, 512), whole);
  set(&a, "llama.attention.sliding_window", {uint32_t{12}});
  const auto seen = last(a, tokens, 512);
  EXPECT_NE(seen, whole);
  EXPECT_EQ(last(a, tokens, 5), seen);
  // Each of the layers looks one window further back.
  auto other = tokens;
  const auto layers = static_cast<size_t>(std::get<uint32_t>(a.meta("llama.block_count")->v));
  for (size_t t = 0; t + 12 * layers < tokens.size(); ++t) other[t] = 1;
  EXPECT_NE(other, tokens);
  EXPECT_EQ(last(a, other, 512), seen);
}

}  // namespace
}  // namespace ingot
