// What the class takes for granted, ties and passes over: each as transformers 5 has it (values from its configuration classes).
#include "transform/class_rules.h"

#include <set>

#include "model/model_config.h"
#include "transform/as_loaded.h"
#include "transform/real_directories_testing.h"

namespace ingot::transform {
namespace {

// The base of a world as it is in memory, and what was told.
struct Loaded {
  Result<Artifact> artifact = Artifact();
  std::string told;
};
Loaded load(const World& w) {
  Loaded l;
  auto files = w.base_files;
  files["config.json"] = w.config.dump();
  Artifact base = as_artifact(w.base, files);
  base.path = "base";
  l.artifact = as_loaded(base, [&](const std::string& text) { l.told += text + "\n"; });
  return l;
}
Json config_of(const Loaded& l) { return *parse_json(l.artifact->files.at("config.json"), "c"); }
// The loaded base as GGUF, told of into the same.
Result<Artifact> gguf_of(Loaded& l) {
  ToGgufOptions o;
  o.on_notice = [&](const std::string& text) { l.told += text + "\n"; };
  if (!l.artifact.ok()) return l.artifact.error();
  return to_gguf(*l.artifact, o);
}
void expect_told(const Loaded& l, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(l.told.find(part), std::string::npos) << "no '" << part << "' in: " << l.told;
}

TEST(ClassRules, APlainModelStaysAsItIs) {
  for (const bool tied : {false, true}) {
    World w(tied);
    const Loaded l = load(w);
    ASSERT_TRUE(l.artifact.ok()) << l.artifact.error().message;
    EXPECT_EQ(l.told, "");
    EXPECT_EQ(l.artifact->files.at("config.json"), w.config.dump());
  }
}

TEST(ClassRules, AConfigurationThatIsNoObjectIsRefused) {
  for (const char* text : {"[]", "1", "\"x\"", "null"}) {
    World w(false);
    w.base_files["config.json"] = text;
    Artifact base = as_artifact(w.base, w.base_files);
    base.path = "base";
    expect_error(as_loaded(base, {}), {"base/config.json", "expected an object"});
  }
}

TEST(ClassRules, TheClassIsFoundByModelType) {
  for (const OrderedJson& classes : {OrderedJson(), OrderedJson::array(), OrderedJson::array({"LLaMAForCausalLM"}), OrderedJson::array({"FooForCausalLM"})}) {
    World w(false);
    w.config["architectures"] = classes;
    Loaded l = load(w);
    ASSERT_TRUE(gguf_of(l).ok()) << classes;
    expect_told(l, {"by its model_type, llama, it is LlamaForCausalLM"});
    EXPECT_EQ(config_of(l)["architectures"], Json({"LlamaForCausalLM"}));
  }
  // Not of another task. One with code of its own, or of a type that is not known, is tried by its tensors.
  World task(false), own(false), type(false);
  task.config["architectures"] = {"LlamaForSequenceClassification"};
  own.config["architectures"] = {"FooForCausalLM"}, own.config["auto_map"] = {{"AutoModelForCausalLM", "modeling_foo.FooForCausalLM"}};
  type.config["architectures"] = {"FooForCausalLM"}, type.config["model_type"] = "foo";
  Loaded l = load(task);
  EXPECT_FALSE(gguf_of(l).ok());
  EXPECT_EQ(l.told, "");
  for (const World* w : {&own, &type}) {
    l = load(*w);
    EXPECT_EQ(config_of(l)["architectures"], Json({"FooForCausalLM"}));
    ASSERT_TRUE(gguf_of(l).ok());
    expect_told(l, {"the class FooForCausalLM is unknown; names and shapes of its tensors are those of LlamaForCausalLM"});
  }
}

TEST(ClassRules, AClassAndAModelTypeOfTwoModelsAreRefused) {
  for (const auto& [name, type] : std::initializer_list<std::pair<const char*, const char*>>{
           {"LlamaForCausalLM", "gemma"}, {"LlamaForCausalLM", "qwen2"}, {"LlamaForCausalLM", "mistral"}, {"LlamaModel", "gemma"}, {"MistralForCausalLM", "llama"}}) {
    World w(false);
    w.config["architectures"] = {name}, w.config["model_type"] = type;
    expect_error(load(w).artifact, {"base/config.json", name, type, "contradict each other"});
  }
  World w(false);
  w.config["architectures"] = {"Qwen2ForCausalLM"}, w.config["model_type"] = "qwen2";
  EXPECT_TRUE(load(w).artifact.ok());
}

TEST(ClassRules, WhatIsMissingIsTheClasssOwn) {
  World w(false);
  for (const char* key : {"max_position_embeddings", "rms_norm_eps"}) w.config.erase(key);
  Loaded l = load(w);
  auto gguf = gguf_of(l);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  EXPECT_EQ(std::get<uint32_t>(gguf->meta("llama.context_length")->v), 2048u);
  EXPECT_EQ(std::get<float>(gguf->meta("llama.attention.layer_norm_rms_epsilon")->v), 1e-6f);
  expect_told(l, {"'max_position_embeddings' (2048)", "'rms_norm_eps' (1e-06)"});
  World m(false);
  m.config["architectures"] = {"MistralForCausalLM"}, m.config["model_type"] = "mistral";
  for (const char* key : {"max_position_embeddings", "num_key_value_heads", "vocab_size"}) m.config.erase(key);
  l = load(m);
  ASSERT_TRUE(l.artifact.ok());
  EXPECT_EQ(config_of(l)["max_position_embeddings"], 131072);
  EXPECT_EQ(config_of(l)["num_key_value_heads"], 8);
  EXPECT_EQ(config_of(l)["vocab_size"], 32000);
  World swish(false);
  swish.config["hidden_act"] = "swish";
  l = load(swish);
  EXPECT_TRUE(gguf_of(l).ok());
}

TEST(ClassRules, WhatIsMissingIsToldOfAClassThatIsNotNamedFirst) {
  for (const char* type : {"", "foo"}) {
    World w(false);
    w.config["architectures"] = {"FooForCausalLM", "LlamaForCausalLM"}, w.config["model_type"] = type;
    w.config.erase("rms_norm_eps");
    Loaded l = load(w);
    EXPECT_TRUE(gguf_of(l).ok());
    expect_told(l, {"'rms_norm_eps' (1e-06)"});
  }
}

// The number may stand under another name that the class reads; one that others fall back to is another number.
TEST(ClassRules, WhatIsSaidUnderAnotherNameIsNotMissing) {
  const auto missing = [](const char* name, const Json& config) {
    std::set<std::string> keys;
    for (const auto& [key, value] : missing_defaults(*architecture_of_class(name), config)) keys.insert(key);
    return keys;
  };
  EXPECT_EQ(missing("Qwen3MoeForCausalLM", Json::object()).count("num_experts"), 1u);
  EXPECT_EQ(missing("Qwen3MoeForCausalLM", {{"num_local_experts", nullptr}}).count("num_experts"), 1u);
  EXPECT_EQ(missing("Qwen3MoeForCausalLM", {{"num_local_experts", 6}}).count("num_experts"), 0u);
  EXPECT_EQ(missing("GPT2LMHeadModel", Json::object()).count("n_positions"), 1u);
  for (const char* key : {"n_ctx", "max_position_embeddings"}) EXPECT_EQ(missing("GPT2LMHeadModel", {{key, 256}}).count("n_positions"), 0u) << key;
  EXPECT_EQ(missing("MistralForCausalLM", {{"num_attention_heads", 4}}).count("num_key_value_heads"), 1u);
  EXPECT_EQ(missing("Gemma2ForCausalLM", {{"num_attention_heads", 4}, {"hidden_size", 64}}).count("head_dim"), 1u);
  EXPECT_EQ(missing("Phi3ForCausalLM", {{"max_position_embeddings", 64}, {"rope_parameters", {{"original_max_position_embeddings", 64}}}}).count("original_max_position_embeddings"), 1u);
}

TEST(ClassRules, MistralHasNoBiases) {
  World w(false);
  w.config["architectures"] = {"MistralForCausalLM"}, w.config["model_type"] = "mistral", w.config["attention_bias"] = true;
  for (int i = 0; i < kLayers; ++i)
    for (const char* p : {"q", "o"}) w.base[fmt::format("model.layers.{}.self_attn.{}_proj.bias", i, p)] = random_matrix(0, kHeads * kDim, 7);
  Loaded l = load(w);
  const auto gguf = gguf_of(l);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  EXPECT_EQ(gguf->find("blk.0.attn_q.bias"), nullptr);
  expect_told(l, {"since the class does not read it: 'attention_bias'", "biases left out, which MistralForCausalLM has not: model.layers.0.self_attn.o_proj.bias"});
  w.config["architectures"] = {"LlamaForCausalLM"}, w.config["model_type"] = "llama", w.config["attention_bias"] = false;
  l = load(w);
  expect_error(gguf_of(l), {"q_proj.bias"});
}

// transformers 5 does not tie two that differ; of one that is stored it makes both.
TEST(ClassRules, AHeadThatDiffersFromItsTiedEmbeddingStays) {
  World w(true);
  w.base[kHead] = plus(w.base.at(kEmbedding), 1);
  Loaded l = load(w);
  EXPECT_EQ(l.artifact->files.at("config.json"), w.config.dump());  // transformers reads the copy the same way
  const auto gguf = gguf_of(l);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  EXPECT_EQ(values(gguf->find("output.weight")->node), w.base[kHead].v);
  EXPECT_EQ(values(gguf->find("token_embd.weight")->node), w.base[kEmbedding].v);
  expect_told(l, {"the two differ, and transformers does not tie them then"});
}

// What does not fit is refused, and nothing is promised of it before.
TEST(ClassRules, ATiedHeadOfFewerRowsIsRefusedAlone) {
  World w(true);
  w.base[kHead] = random_matrix(kVocab - 8, kHidden, 3);
  Loaded l = load(w);
  expect_error(gguf_of(l), {"config.json ties the embeddings, but 'lm_head.weight' is F32 [4088, 16] and the embedding F32 [4096, 16]"});
  EXPECT_EQ(l.told, "");
}

TEST(ClassRules, ATiedHeadAloneIsTheEmbedding) {
  World w(true);
  const Matrix e = w.base.at(kEmbedding);
  w.base.erase(kEmbedding), w.base[kHead] = e;
  Loaded l = load(w);
  const auto gguf = gguf_of(l);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  EXPECT_EQ(values(gguf->find("token_embd.weight")->node), e.v);
  EXPECT_EQ(gguf->find("output.weight"), nullptr);
  expect_told(l, {"of the tied pair only 'lm_head.weight' is stored"});
  w.config["tie_word_embeddings"] = false;
  l = load(w);
  expect_error(gguf_of(l), {"model.embed_tokens.weight", "missing"});
}

TEST(ClassRules, WhatTransformersPassesOverIsLeftOutAndTold) {
  World w(false);
  const auto plain = to_gguf(as_artifact(w.base, [&] { auto f = w.base_files; f["config.json"] = w.config.dump(); return f; }()));
  ASSERT_TRUE(plain.ok());
  const std::vector<std::string> names = {"v_head.summary.weight", "v_head.weight", "model.layers.0.self_attn.rotary_emb.cos_cached", "model.layers.1.self_attn.masked_bias",
                                          "model.layers.0.self_attn.q_proj._extra_state", "lm_head.bias", "model.layers.2.mlp.up_proj.weight", "model.layers.2.eh_proj.weight",
                                          "model.layers.0.mlp.up_proj.weight_scale_inv", "model.layers.0.self_attn.k_scale"};
  for (const auto& name : names) {
    World one = w;
    one.base[name] = random_matrix(2, 2, 1);
    Loaded l = load(one);
    const auto gguf = gguf_of(l);
    ASSERT_TRUE(gguf.ok()) << name << gguf.error().message;
    EXPECT_EQ(gguf->tensors.size(), plain->tensors.size());
    expect_told(l, {"are left out: " + name});
  }
  for (const char* name : {"model.layers.0.mlp.fourth_proj.weight", "model.bias", "score.weight"}) {
    World one = w;
    one.base[name] = random_matrix(2, 2, 1);
    Loaded l = load(one);
    expect_error(gguf_of(l), {name, "is none that", "load it there and save it anew"});
  }
}

// Prefixes that are not taken off are named.
TEST(ClassRules, APrefixThatStaysIsNamed) {
  for (const char* prefix : {"teacher.", "ref_model.", "a.b.c.", "reward_model."}) {
    World w(false);
    w.rename(&w.base, [&](const std::string& n) { return prefix + n; });
    Loaded l = load(w);
    expect_error(gguf_of(l), {fmt::format("without the prefix '{}'", prefix)});
  }
  for (const char* prefix : {"decoder.", "preference_model."}) {
    World w(false);
    w.rename(&w.base, [&](const std::string& n) { return prefix + n; });
    Loaded l = load(w);
    EXPECT_TRUE(gguf_of(l).ok()) << prefix;
    expect_told(l, {fmt::format("'{}' taken off", prefix)});
  }
  for (const char* part : {"modules_to_save.default", "original_module", "default"}) {
    World w(false);
    w.rename(&w.base, [&](const std::string& n) { return n == kHead ? fmt::format("lm_head.{}.weight", part) : n; });
    Loaded l = load(w);
    expect_error(gguf_of(l), {"lm_head.", "a PEFT model", "saved whole", "merge_and_unload"});
  }
  World unknown(false);
  unknown.config["architectures"] = {"FooForCausalLM"}, unknown.config["model_type"] = "foo";
  unknown.rename(&unknown.base, [](const std::string& n) { return "module." + n; });
  expect_told(load(unknown), {"every name begins with 'module.'", "class is not known"});
}

}  // namespace
}  // namespace ingot::transform
