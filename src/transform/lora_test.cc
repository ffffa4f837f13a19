#include "transform/lora.h"

#include <cmath>
#include <cstring>

#include "formats/json.h"
#include "transform/lora_nodes.h"
#include "transform/lora_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Artifact copy_with_adapter_config(Artifact a, const std::string& key, Json value) {
  Json j = *parse_json(a.files["adapter_config.json"], "c");
  j[key] = std::move(value);
  a.files["adapter_config.json"] = j.dump();
  return a;
}

// PEFT's own results on the example model, in f32.
TEST(LoraMerge, EqualsPeftOnEveryAdapter) {
  const Artifact base = example_base();
  for (const char* name : {"lora-code", "lora-prose", "lora-rs-patterns", "lora-embed-head"}) {
    auto merged = lora_merge(base, {{example_adapter(name), 1}});
    ASSERT_TRUE(merged.ok()) << merged.error().message;
    const Artifact expected = open_or_die(local_store(), INGOT_SOURCE_DIR "/tests/data/lora/" + std::string(name) + ".safetensors");
    ASSERT_FALSE(expected.tensors.empty());
    for (const auto& t : expected.tensors) {
      std::string key = t.name;
      const auto slice = key.find("[:");  // NAME[:64] holds the first 64 rows
      const bool part = slice != std::string::npos;
      if (part) key.resize(slice);
      const LazyTensor* got = merged->find(key);
      ASSERT_NE(got, nullptr) << key;
      auto want = values(t.node), have = values(got->node);
      if (part) have.resize(want.size());
      ASSERT_EQ(have.size(), want.size());
      double worst = 0;
      for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(want[i]) - have[i]));
      EXPECT_LE(worst, 6e-8) << name << " " << key;  // weights are below 1: the last bit of f32
    }
  }
}

TEST(LoraMerge, ChangesWhatItNamesAndNothingElse) {
  const Artifact base = example_base();
  auto merged = lora_merge(base, {{example_adapter("lora-prose"), 1}});
  ASSERT_TRUE(merged.ok());
  int changed = 0;
  for (size_t i = 0; i < base.tensors.size(); ++i) {
    EXPECT_EQ(merged->tensors[i].name, base.tensors[i].name);
    const bool is = merged->tensors[i].node != base.tensors[i].node;
    const std::string& n = base.tensors[i].name;
    EXPECT_EQ(is, n.find("q_proj") != n.npos || n.find("v_proj") != n.npos || n.find("down_proj") != n.npos) << n;
    if (is) {
      EXPECT_EQ(merged->tensors[i].spec().type, DType::kF32);
    }
    changed += is;
  }
  EXPECT_EQ(changed, 18);
  EXPECT_NE(merged->files["config.json"].find("\"_name_or_path\": \"tiny-llama-base-lora-prose\""), std::string::npos);
  // A weight of 0 is the base; adapters apply in order and add up.
  auto none = lora_merge(base, {{example_adapter("lora-prose"), 0}});
  const char* q = "model.layers.2.self_attn.q_proj.weight";
  EXPECT_EQ(values(none->find(q)->node), values(base.find(q)->node));
  auto both = lora_merge(base, {{example_adapter("lora-prose"), 0.5}, {example_adapter("lora-prose"), 0.5}});
  const auto x = values(both->find(q)->node), y = values(merged->find(q)->node);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-7);
}

// A small model made here: two layers "a" [out, in] and "c" with bias, and an adapter with every kind of key.
struct Small {
  Matrix a = random_matrix(6, 4, 1), c = random_matrix(4, 4, 2);
  std::vector<float> bias = random_floats(4, 3);
  Artifact base, adapter;
  Json config = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 3}, {"target_modules", {"a", "c"}}};
  std::map<std::string, Matrix> factors;

  Small() {
    base.path = "base", base.naming = "hf";
    base.tensors = {{"m.layers.0.a.weight", node(a)}, {"m.layers.0.c.weight", node(c)}, {"m.layers.0.c.bias", f32_tensor({4}, bias)}};
    adapter.path = "adapter", adapter.naming = "peft";
    put("a.lora_A.weight", random_matrix(2, 4, 4));
    put("a.lora_B.weight", random_matrix(6, 2, 5));
    put("c.lora_A.weight", random_matrix(2, 4, 6));
    put("c.lora_B.weight", random_matrix(4, 2, 7));
  }
  void put(const std::string& name, Matrix m) {
    adapter.tensors.push_back({"base_model.model.m.layers.0." + name, node(m)});
    factors[name] = std::move(m);
  }
  void put_vector(const std::string& name, std::vector<float> v) {
    const auto n = static_cast<int64_t>(v.size());
    adapter.tensors.push_back({"base_model.model.m.layers.0." + name, f32_tensor({n}, v)});
  }
  void drop(const std::string& part) {
    drop_if(&adapter, [&](const auto& t) { return t.name.find(part) != std::string::npos; });
  }
  Result<Artifact> merge(double weight = 1) {
    adapter.files["adapter_config.json"] = config.dump();
    return lora_merge(base, {{adapter, weight}});
  }
};

TEST(LoraMerge, TrainedBiasesReplaceThoseOfTheBase) {
  for (const char* kind : {"all", "lora_only"})
    for (const char* key : {"c.bias", "c.base_layer.bias"}) {
      Small s;
      s.config["bias"] = kind;
      s.put_vector(key, {9, 8, 7, 6});
      auto r = s.merge();
      ASSERT_TRUE(r.ok()) << r.error().message;
      EXPECT_EQ(values(r->find("m.layers.0.c.bias")->node), (std::vector<float>{9, 8, 7, 6}));
      EXPECT_FALSE(s.merge(0.5).ok());  // a weight cannot scale a replacement
    }
  Small s;
  s.put_vector("c.bias", {9, 8, 7, 6});
  const auto plain = s.merge();  // bias: none. PEFT does not load it
  ASSERT_TRUE(plain.ok()) << plain.error().message;
  EXPECT_EQ(values(plain->find("m.layers.0.c.bias")->node), s.bias);
  s = Small();
  s.config["bias"] = "all";
  s.put_vector("a.bias", {1, 2, 3, 4, 5, 6});
  expect_error(s.merge(), {"has no tensor", "a.bias", "another model"});
}

TEST(LoraMerge, LoraBiasIsScaledAndAdded) {
  Small s;
  s.config["lora_bias"] = true;
  s.put_vector("c.lora_B.bias", {1, 2, 3, 4});
  auto r = s.merge(0.5);
  ASSERT_TRUE(r.ok()) << r.error().message;
  const auto got = values(r->find("m.layers.0.c.bias")->node);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(got[i], s.bias[i] + 0.5 * 1.5 * static_cast<double>(i + 1), 1e-6);
  s.config["lora_bias"] = false;
  expect_error(s.merge(), {"lora_bias is not set"});
  s.config["lora_bias"] = true;
  s.put_vector("a.lora_B.bias", {1, 2, 3, 4, 5, 6});
  expect_error(s.merge(), {"no bias in the base", "'m.layers.0.a'"});
}

TEST(LoraMerge, FanInFanOutIsTheTransposedForm) {
  // Conv1D: a is [in, out] = [6, 4]; the square c follows it, whatever the flag says.
  for (bool flag : {true, false}) {
    Small s;
    s.drop(".a.");
    s.put("a.lora_A.weight", random_matrix(2, 6, 8));
    s.put("a.lora_B.weight", random_matrix(4, 2, 9));
    s.config["fan_in_fan_out"] = flag;
    auto r = s.merge();
    ASSERT_TRUE(r.ok()) << r.error().message;
    for (const char* m : {"a", "c"}) {
      const Matrix& w = m[0] == 'a' ? s.a : s.c;
      const auto got = values(r->find("m.layers.0." + std::string(m) + ".weight")->node);
      for (int64_t i = 0; i < w.rows; ++i)
        for (int64_t j = 0; j < w.cols; ++j)
          ASSERT_NEAR(got[static_cast<size_t>(i * w.cols + j)],
                      exact(w, s.factors[std::string(m) + ".lora_A.weight"], s.factors[std::string(m) + ".lora_B.weight"], 1.5, true, i, j), 2e-6);
    }
  }
  // nn.Linear with the flag set by mistake: PEFT corrects it, by the class; here by the shape of a.
  Small s;
  s.config["fan_in_fan_out"] = true;
  auto r = s.merge();
  ASSERT_TRUE(r.ok());
  EXPECT_NEAR(values(r->find("m.layers.0.c.weight")->node)[1],
              exact(s.c, s.factors["c.lora_A.weight"], s.factors["c.lora_B.weight"], 1.5, false, 0, 1), 2e-6);
  // Only square ones: the flag decides.
  for (bool flag : {true, false}) {
    Small q;
    q.drop(".a.");
    q.config["target_modules"] = {"c"};
    q.config["fan_in_fan_out"] = flag;
    auto m = q.merge();
    ASSERT_TRUE(m.ok()) << m.error().message;
    EXPECT_NEAR(values(m->find("m.layers.0.c.weight")->node)[1],
                exact(q.c, q.factors["c.lora_A.weight"], q.factors["c.lora_B.weight"], 1.5, flag, 0, 1), 2e-6);
  }
}

TEST(LoraMerge, ScalingFollowsThePatterns) {
  Small s;
  const auto scale_of = [&](const char* m) {
    auto r = s.merge();
    EXPECT_TRUE(r.ok()) << r.error().message;
    if (!r.ok()) return 0.0;
    const Matrix& w = m[0] == 'a' ? s.a : s.c;
    const double got = values(r->find("m.layers.0." + std::string(m) + ".weight")->node)[0];
    const double one = exact(w, s.factors[std::string(m) + ".lora_A.weight"], s.factors[std::string(m) + ".lora_B.weight"], 1, false, 0, 0) - w.at(0, 0);
    return (got - w.at(0, 0)) / one;
  };
  EXPECT_NEAR(scale_of("a"), 1.5, 1e-5);
  s.config["use_rslora"] = true;
  EXPECT_NEAR(scale_of("a"), 3 / std::sqrt(2.0), 1e-5);
  s.config["alpha_pattern"] = {{"a", 8}};
  EXPECT_NEAR(scale_of("a"), 8 / std::sqrt(2.0), 1e-5);
  EXPECT_NEAR(scale_of("c"), 3 / std::sqrt(2.0), 1e-5);
  s.config["alpha_pattern"] = {{"layers.[0-9].c", 8}};  // an expression, anchored at a dot
  EXPECT_NEAR(scale_of("c"), 8 / std::sqrt(2.0), 1e-5);
  s.config["alpha_pattern"] = {{"ayers.0.c", 8}};
  EXPECT_NEAR(scale_of("c"), 3 / std::sqrt(2.0), 1e-5);
  s.config["rank_pattern"] = {{"c", 4}};
  expect_error(s.merge(), {"'m.layers.0.c'", "[2, 4]", "the rank 4"});
  s.config["r"] = 4, s.config["rank_pattern"] = {{".*", 2}};
  EXPECT_NEAR(scale_of("a"), 3 / std::sqrt(2.0), 1e-5);
  // The first pattern in the file's order that matches.
  s.config.erase("rank_pattern"), s.config["r"] = 2, s.config.erase("alpha_pattern");
  std::string text = s.config.dump();
  text.insert(1, R"("alpha_pattern":{"layers.0.a":16,"a":8},)");
  s.adapter.files["adapter_config.json"] = text;
  auto r = lora_merge(s.base, {{s.adapter, 1}});
  ASSERT_TRUE(r.ok()) << r.error().message;
  const double one = exact(s.a, s.factors["a.lora_A.weight"], s.factors["a.lora_B.weight"], 1, false, 0, 0) - s.a.at(0, 0);
  EXPECT_NEAR((values(r->find("m.layers.0.a.weight")->node)[0] - s.a.at(0, 0)) / one, 16 / std::sqrt(2.0), 1e-4);
}

TEST(LoraMerge, TargetsAndFileMustAgree) {
  Small s;
  s.config["target_modules"] = "m\\.layers\\.\\d+\\.(a|c)";
  EXPECT_TRUE(s.merge().ok());
  s.config["target_modules"] = "all-linear";
  EXPECT_TRUE(s.merge().ok());
  // What the configuration does not name PEFT passes over.
  const auto without_c = [&] {
    const auto r = s.merge();
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(values(r->find("m.layers.0.c.weight")->node), s.c.v);
    EXPECT_NE(values(r->find("m.layers.0.a.weight")->node), s.a.v);
  };
  s.config["target_modules"] = {"a"};
  without_c();
  s.config["target_modules"] = {"a", "c"}, s.config["exclude_modules"] = {"c"};
  without_c();
  s.config.erase("exclude_modules"), s.config["layers_to_transform"] = {0};
  EXPECT_TRUE(s.merge().ok());
  s.config["layers_pattern"] = "layers";
  EXPECT_TRUE(s.merge().ok());
  s.config["layers_to_transform"] = 1;
  expect_error(s.merge(), {"'m.layers.0.a'", "do not belong together"});
  s = Small();
  s.drop(".c.");
  without_c();
  s = Small();
  s.drop("c.lora_B");
  expect_error(s.merge(), {"'m.layers.0.c' has lora_A but no lora_B"});
  s.config["target_modules"] = "(((";
  expect_error(s.merge(), {"no regular expression"});
}

// PEFT loads them into parameters of F32.
TEST(LoraMerge, FactorsInF64AreRoundedToF32) {
  Small s;
  const auto expected = s.merge();
  ASSERT_TRUE(expected.ok());
  const Artifact plain = s.adapter;
  for (const auto& t : plain.tensors) {
    const auto v = values(t.node);
    std::vector<std::byte> bytes(v.size() * sizeof(double));
    for (size_t i = 0; i < v.size(); ++i) {
      const double exact = v[i] * (1 + 1e-9);
      std::memcpy(bytes.data() + i * sizeof(double), &exact, sizeof(double));
    }
    set_node(&s.adapter, t.name, make_memory_tensor({DType::kF64, t.spec().shape}, std::move(bytes)));
  }
  const auto r = s.merge();
  ASSERT_TRUE(r.ok()) << r.error().message;
  for (const char* name : {"m.layers.0.a.weight", "m.layers.0.c.weight"}) EXPECT_EQ(values(r->find(name)->node), values(expected->find(name)->node));
}

TEST(LoraMerge, AnAdapterForAnotherBaseIsNamed) {
  Small s;
  s.put("z.lora_A.weight", random_matrix(2, 4, 1));
  s.put("z.lora_B.weight", random_matrix(4, 2, 1));
  expect_error(s.merge(), {"adapter", "base", "no module 'm.layers.0.z'", "another model"});
  s = Small();
  s.drop("a.lora_A");
  s.put("a.lora_A.weight", random_matrix(2, 5, 1));
  expect_error(s.merge(), {"'m.layers.0.a'", "[2, 5]", "[6, 2]", "[6, 4]", "another model"});
  s = Small();
  s.drop("a.lora");
  s.put("a.lora_A.weight", random_matrix(0, 4, 1));
  s.put("a.lora_B.weight", random_matrix(6, 0, 1));
  expect_error(s.merge(), {"rank 0"});
  s = Small();
  s.adapter.tensors.push_back({"base_model.model.m.something", f32_tensor({1}, {1})});
  expect_error(s.merge(), {"has no tensor 'm.something'", "another model"});
  s = Small();
  s.adapter.tensors.push_back({"lora_unet_x", f32_tensor({1}, {1})});
  expect_error(s.merge(), {"lora_unet_x", "none of PEFT's"});
  s = Small();
  s.put_vector("a.lora_magnitude_vector", {1, 2, 3, 4, 5, 6});
  expect_error(s.merge(), {"use_dora"});
  s = Small();
  s.put("c.base_layer.weight", random_matrix(5, 4, 1));
  expect_error(s.merge(), {"c.base_layer.weight", "[5, 4]", "[4, 4]"});
}

TEST(LoraMerge, ModulesToSaveReplaceWholeTensors) {
  for (const char* key : {"c.weight", "c.modules_to_save.default.weight", "c.modules_to_save.weight"}) {
    Small s;
    s.drop("c.lora");
    s.config["modules_to_save"] = {"c"};
    const Matrix m = random_matrix(4, 4, 11);
    s.put(key, m);
    expect_error(s.merge(), {"modules_to_save", "'m.layers.0.c'", "not whole"});  // PEFT saves the module, its bias with it
    s.put_vector("c.bias", {9, 8, 7, 6});
    auto r = s.merge();
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(values(r->find("m.layers.0.c.weight")->node), m.v);
    EXPECT_EQ(values(r->find("m.layers.0.c.bias")->node), (std::vector<float>{9, 8, 7, 6}));
  }
  Small s;
  s.drop("c.lora");
  s.config["modules_to_save"] = {"c"};
  s.put("c.weight", random_matrix(5, 4, 1));
  s.put_vector("c.bias", {9, 8, 7, 6});
  expect_error(s.merge(), {"[5, 4]", "[4, 4]"});
}

// PEFT loads the copy of the embedding that it saved over the base's, and says nothing.
TEST(LoraMerge, AStoredBaseLayerTakesThePlaceOfTheBases) {
  const Artifact base = example_base();
  Artifact adapter = example_adapter("lora-embed-head");
  std::vector<float> copy;
  for (const auto& t : adapter.tensors)
    if (t.name.ends_with("embed_tokens.base_layer.weight")) {
      copy = values(t.node);
      copy[1000] += 1;
      set_node(&adapter, t.name, typed_tensor(t.spec().type, t.spec().shape, copy));
    }
  ASSERT_FALSE(copy.empty());
  std::string told;
  const LoraMergeOptions options = {[&](const std::string& text) { told += text + "\n"; }};
  const auto plain = lora_merge(base, {{example_adapter("lora-embed-head"), 1}}), r = lora_merge(base, {{adapter, 1}}, options);
  ASSERT_TRUE(r.ok()) << r.error().message;
  const auto before = values(plain->find("model.embed_tokens.weight")->node), after = values(r->find("model.embed_tokens.weight")->node);
  for (size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(after[i], before[i] + (i == 1000 ? 1 : 0), i == 1000 ? 0.01 : 1e-6) << i;
  EXPECT_NE(told.find("keeps the 'model.embed_tokens.weight' that it was trained on"), std::string::npos) << told;
}

TEST(LoraMerge, UnsupportedFieldsAreRefusedByName) {
  const Artifact base = example_base(), adapter = example_adapter("lora-code");
  const std::pair<const char*, Json> cases[] = {
      {"use_dora", true},
      {"target_parameters", Json::array({"experts.gate"})},
      {"layer_replication", Json::array({Json::array({0, 2})})},
      {"use_qalora", true},
      {"alora_invocation_tokens", Json::array({1})},
      {"use_bdlora", Json{{"x", 1}}},
      {"kasa_config", Json{{"x", 1}}},
      {"velora_config", Json{{"x", 1}}},
      {"monteclora_config", Json{{"x", 1}}},
      {"arrow_config", Json{{"x", 1}}},
      {"megatron_config", Json{{"x", 1}}},
      {"init_lora_weights", "pissa"},
      {"init_lora_weights", "pissa_niter_4"},
      {"init_lora_weights", "olora"},
      {"init_lora_weights", "corda"},
      {"init_lora_weights", "loftq"},
      {"init_lora_weights", "lora_ga"},
      {"peft_type", "LOHA"},
      {"peft_type", Json()},
      {"trainable_token_indices", Json::array({-1})},
      {"trainable_token_indices", "embed_tokens"},
      {"trainable_token_indices", Json{{"embed_tokens", 3}}},
      {"r", 0},
      {"r", -4},
      {"r", "16"},
      {"lora_alpha", "x"},
      {"bias", "some"},
      {"rank_pattern", Json{{"q_proj", 0}}},
      {"alpha_pattern", Json{{"q_proj", "x"}}},
      {"target_modules", Json::array({1})},
      {"use_rslora", "yes"},
  };
  for (const auto& [key, value] : cases) {
    auto r = lora_merge(base, {{copy_with_adapter_config(adapter, key, value), 1}});
    expect_error(r, {key, "adapter_config.json"}, std::string(key) + value.dump());
    if (!r.ok()) {
      EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
    }
  }
  // Fields that PEFT does not know, and initialisations that leave the base alone, pass.
  std::string told;
  const LoraMergeOptions options = {[&](const std::string& text) { told += text; }};
  EXPECT_TRUE(lora_merge(base, {{copy_with_adapter_config(adapter, "a_field_of_the_future", 3), 1}}, options).ok());
  EXPECT_NE(told.find("a_field_of_the_future"), std::string::npos) << told;
  EXPECT_TRUE(lora_merge(base, {{copy_with_adapter_config(adapter, "a_field_of_the_future", false), 1}}).ok());
  EXPECT_TRUE(lora_merge(base, {{copy_with_adapter_config(adapter, "init_lora_weights", "gaussian"), 1}}).ok());
  expect_error(lora_merge(base, {{base, 1}}), {"no PEFT adapter"});
  expect_error(lora_merge(adapter, {{adapter, 1}}), {"not a model"});
}

// A tied model whose embedding is trained has two tensors afterwards, as it had in training.
TEST(LoraMerge, ASavedModuleThatTheFileLacksIsNamed) {
  expect_error(lora_merge(example_base(), {{copy_with_adapter_config(example_adapter("lora-code"), "modules_to_save", Json({"lm_head"})), 1}}),
               {"modules_to_save", "lm_head", "not whole"});
}

TEST(LoraMerge, AnUpdateThatOverflowsIsNamed) {
  auto merged = lora_merge(example_base(), {{copy_with_adapter_config(example_adapter("lora-code"), "lora_alpha", 1e300), 1}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  auto r = evaluate(merged->find("model.layers.0.self_attn.q_proj.weight")->node);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(r.error().message.find("too large"), std::string::npos) << r.error().message;
}

// A base may keep head and embedding though they are tied.
TEST(LoraMerge, AChangedHeadUntiesABaseThatHasBoth) {
  Artifact base = example_base();
  std::string& config = base.files["config.json"];
  config.replace(config.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
  auto merged = lora_merge(base, {{example_adapter("lora-embed-head"), 1}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  EXPECT_NE(merged->files["config.json"].find("\"tie_word_embeddings\": false"), std::string::npos);
  // Only the embedding changes, and the adapter wants the two to stay one, as they are in a base whose head is the embedding.
  set_node(&base, "lm_head.weight", base.find("model.embed_tokens.weight")->node);
  Artifact only = copy_with_adapter_config(example_adapter("lora-embed-head"), "modules_to_save", Json());
  drop_if(&only, [](const auto& t) { return t.name.find("lm_head") != std::string::npos; });
  auto kept = lora_merge(base, {{copy_with_adapter_config(only, "ensure_weight_tying", true), 1}});
  ASSERT_TRUE(kept.ok()) << kept.error().message;
  EXPECT_NE(kept->files["config.json"].find("\"tie_word_embeddings\": true"), std::string::npos);
}

TEST(LoraMerge, TiedEmbeddingsAreUntiedWhenOneSideChanges) {
  Artifact base = example_base();
  drop_if(&base, [](const auto& t) { return t.name == "lm_head.weight"; });
  std::string& config = base.files["config.json"];
  config.replace(config.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
  const auto embedding = values(base.find("model.embed_tokens.weight")->node);
  auto head = lora_merge(base, {{example_adapter("lora-embed-head"), 1}});
  ASSERT_TRUE(head.ok()) << head.error().message;
  ASSERT_NE(head->find("lm_head.weight"), nullptr);
  EXPECT_NE(values(head->find("lm_head.weight")->node), embedding);  // from modules_to_save
  EXPECT_NE(head->files["config.json"].find("\"tie_word_embeddings\": false"), std::string::npos);
  Artifact only = copy_with_adapter_config(example_adapter("lora-embed-head"), "modules_to_save", Json());
  drop_if(&only, [](const auto& t) { return t.name.find("lm_head") != std::string::npos; });
  auto embed = lora_merge(base, {{only, 1}});
  ASSERT_TRUE(embed.ok()) << embed.error().message;
  EXPECT_EQ(values(embed->find("lm_head.weight")->node), embedding);
  auto kept = lora_merge(base, {{copy_with_adapter_config(only, "ensure_weight_tying", true), 1}});
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(kept->find("lm_head.weight"), nullptr);
  EXPECT_NE(kept->files["config.json"].find("\"tie_word_embeddings\": true"), std::string::npos);
}

}  // namespace
}  // namespace ingot::transform
