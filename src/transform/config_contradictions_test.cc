// What config.json and adapter_config.json say against themselves or against the tensors: refused with both values, never
// a wrong model.
#include <cmath>

#include "formats/json.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

// The example with these members of config.json set (null: JSON's null), `removed` taken out.
Artifact with(const Json& members, const std::vector<std::string>& removed = {}) {
  Artifact a = example_base();
  auto config = parse_json_ordered(a.files["config.json"], "config.json");
  EXPECT_TRUE(config.ok());
  for (const auto& key : removed) config->erase(key);
  for (const auto& [key, value] : members.items()) (*config)[key] = value;
  a.files["config.json"] = config->dump(2);
  return a;
}

void add_biases(Artifact* a, const std::string& part, int64_t size, int layers = 6) {
  for (int i = 0; i < layers; ++i)
    a->tensors.push_back({fmt::format("model.layers.{}.{}.bias", i, part), f32_tensor({size}, random_floats(static_cast<size_t>(size), 1))});
}
void add_attention_biases(Artifact* a) {
  for (const auto& [part, size] : {std::pair{"q_proj", 256}, {"k_proj", 128}, {"v_proj", 128}, {"o_proj", 256}})
    add_biases(a, std::string("self_attn.") + part, size);
}

TEST(ConfigContradictions, HeadsThatDoNotDivideAreNamedWithBothNumbers) {
  expect_error(to_gguf(with({{"num_attention_heads", 7}}, {"head_dim"})),
               {"config.json", "'hidden_size' is 256", "'num_attention_heads' is 7", "no 'head_dim'"});
  expect_error(to_gguf(with({{"num_key_value_heads", 3}})), {"config.json", "'num_attention_heads' is 8", "'num_key_value_heads' is 3"});
  expect_error(to_gguf(with({{"num_key_value_heads", 16}})), {"'num_attention_heads' is 8", "'num_key_value_heads' is 16"});
  // With a head_dim of its own the hidden size need not be a multiple: the tensors decide.
  expect_error(to_gguf(with({{"num_attention_heads", 12}})), {"o_proj", "[256, 256]", "[256, 384]"});
}

TEST(ConfigContradictions, AScalingWithoutItsFactorIsNamed) {
  for (const char* place : {"rope_parameters", "rope_scaling"})
    for (const char* type : {"linear", "yarn", "llama3"}) {
      const std::vector<std::string> removed = {"rope_parameters"};
      expect_error(to_gguf(with({{place, {{"rope_type", type}, {"rope_theta", 1e4}}}}, removed)), {"config.json", place, type, "no 'factor'"});
      if (type != std::string("yarn")) expect_error(to_gguf(with({{place, {{"rope_type", type}, {"factor", nullptr}}}}, removed)), {place, type, "no 'factor'"});
      expect_error(to_gguf(with({{place, {{"rope_type", type}, {"factor", 0}}}}, removed)), {place, "is 0", "above zero"});
    }
  // A factor without a type would scale nothing.
  expect_error(to_gguf(with({{"rope_scaling", {{"factor", 4.0}}}}, {"rope_parameters"})), {"rope_scaling", "'factor' of 4", "no 'rope_type'"});
  EXPECT_TRUE(to_gguf(with({{"rope_parameters", {{"rope_type", "default"}, {"factor", 1.0}}}})).ok());
  const Json llama3 = {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}, {"original_max_position_embeddings", 512}};
  EXPECT_TRUE(to_gguf(with({{"rope_parameters", llama3}})).ok());
  for (const char* key : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    Json less = llama3;
    less.erase(key);
    expect_error(to_gguf(with({{"rope_parameters", less}})), {key, "llama3"});
  }
  // The old context may stand at the top of the file, as transformers 5 and llama.cpp read it; two must agree.
  Json outside = llama3;
  outside.erase("original_max_position_embeddings");
  auto at_the_top = to_gguf(with({{"rope_parameters", outside}, {"original_max_position_embeddings", 512}}));
  ASSERT_TRUE(at_the_top.ok()) << at_the_top.error().message;
  EXPECT_EQ(values(at_the_top->tensors[0].node), values(to_gguf(with({{"rope_parameters", llama3}}))->tensors[0].node));
  expect_error(to_gguf(with({{"rope_parameters", llama3}, {"original_max_position_embeddings", 8192}})), {"8192", "512", "contradict"});
}

TEST(ConfigContradictions, TypesAndBasesOfTheRotationMustAgree) {
  expect_error(to_gguf(with({{"rope_parameters", {{"rope_type", "default"}, {"type", "linear"}, {"factor", 2.0}}}})),
               {"\"default\"", "\"linear\"", "contradict"});
  EXPECT_TRUE(to_gguf(with({{"rope_parameters", {{"rope_type", "linear"}, {"type", "linear"}, {"factor", 2.0}}}})).ok());
  expect_error(to_gguf(with({{"rope_theta", 5e5}})), {"'rope_theta' is 500000", "rope_parameters.rope_theta", "10000", "contradict"});
  EXPECT_TRUE(to_gguf(with({{"rope_theta", 10000}})).ok());
  expect_error(to_gguf(with({{"rope_parameters", {{"rope_type", 3}}}})), {"rope_parameters", "3", "text"});
  expect_error(to_gguf(with({{"rope_parameters", {{"rope_type", "linear"}, {"factor", "2"}}}})), {"factor", "\"2\"", "number"});
  expect_error(to_gguf(with({{"hidden_act", 5}})), {"hidden_act", "5", "silu"});
}

TEST(ConfigContradictions, ParametersForEachKindOfLayerAreRefusedByName) {
  const Json nested = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 1e6}}},
                       {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}};
  expect_error(to_gguf(with({{"rope_parameters", nested}})), {"config.json", "rope_parameters", "'full_attention'", "llama"});
  expect_error(to_gguf(with({{"rope_scaling", nested}}, {"rope_parameters"})), {"rope_scaling", "'full_attention'"});
}

TEST(ConfigContradictions, APartlyRotatedHeadIsRefusedWhereverItIsSaid) {
  for (const char* key : {"partial_rotary_factor", "rotary_pct", "rotary_percent"}) {
    expect_error(to_gguf(with({{key, 0.5}})), {key, "0.5", "llama"});
    expect_error(to_gguf(with({{"rope_parameters", {{"rope_type", "default"}, {key, 0.25}}}})), {"rope_parameters", key, "0.25"});
    expect_error(to_gguf(with({{key, "0.5"}})), {key, "\"0.5\"", "number"});
    EXPECT_TRUE(to_gguf(with({{key, 1.0}})).ok());
  }
}

TEST(ConfigContradictions, BiasesMustBeThereWhereTheyAreAnnounced) {
  Artifact a = with({{"attention_bias", true}});
  expect_error(to_gguf(a), {"'attention_bias' is true", "model.layers.0.self_attn.q_proj.bias", "missing"});
  add_attention_biases(&a);
  auto g = to_gguf(a);
  ASSERT_TRUE(g.ok()) << g.error().message;
  EXPECT_NE(g->find("blk.5.attn_output.bias"), nullptr);
  drop_if(&a, [](const auto& t) { return t.name == "model.layers.4.self_attn.v_proj.bias"; });
  expect_error(to_gguf(a), {"'attention_bias' is true", "model.layers.4.self_attn.v_proj.bias"});
  expect_error(to_gguf(with({{"mlp_bias", true}})), {"'mlp_bias' is true", "mlp.gate_proj.bias"});
  expect_error(to_gguf(with({{"mlp_bias", "yes"}})), {"'mlp_bias' is \"yes\"", "true or false"});
}

TEST(ConfigContradictions, BiasesThatNobodyAnnouncedAreRefused) {
  Artifact a = with({{"attention_bias", false}});
  add_attention_biases(&a);
  expect_error(to_gguf(a), {"model.layers.0.self_attn.q_proj.bias", "'attention_bias' is false", "set 'attention_bias' to true"});
  Artifact b = with({}, {"attention_bias", "mlp_bias"});
  EXPECT_TRUE(to_gguf(b).ok());
  add_biases(&b, "mlp.down_proj", 256);
  expect_error(to_gguf(b), {"model.layers.0.mlp.down_proj.bias", "does not set 'mlp_bias'"});
}

// llama.cpp loads no model without its context.
TEST(ConfigContradictions, AContextThatIsMissingIsNamed) {
  expect_error(to_gguf(with({}, {"max_position_embeddings"})), {"config.json", "max_position_embeddings"});
  expect_error(to_gguf(with({{"max_position_embeddings", nullptr}})), {"config.json", "max_position_embeddings"});
}

TEST(ConfigContradictions, AWindowBelowTheContextIsTold) {
  const auto convert = [](const Artifact& a, std::string* notice) {
    ToGgufOptions o;
    o.on_notice = [notice](const std::string& text) { *notice += text; };
    return to_gguf(a, o);
  };
  const Json mistral = Json::array({"MistralForCausalLM"});
  const std::tuple<Json, std::vector<std::string>, std::string> cases[] = {
      {{{"architectures", mistral}, {"sliding_window", 512}}, {}, "the last 512 tokens"},
      {{{"architectures", mistral}, {"sliding_window", 2048}}, {}, ""},  // the whole context
      {{{"architectures", mistral}, {"sliding_window", nullptr}}, {}, ""},
      {{{"architectures", mistral}, {"max_position_embeddings", 32768}}, {}, "the last 4096 tokens"},  // what the class takes
      {{{"architectures", mistral}, {"max_position_embeddings", 32768}, {"sliding_window", nullptr}}, {}, ""},
      {{{"sliding_window", 512}}, {}, ""}};  // Llama's class has none
  for (const auto& [members, removed, told] : cases) {
    std::string notice;
    auto g = convert(with(members, removed), &notice);
    ASSERT_TRUE(g.ok()) << members.dump() << g.error().message;
    EXPECT_EQ(told.empty(), notice.empty()) << members.dump() << notice;
    EXPECT_NE(notice.find(told), std::string::npos) << notice;
    const MetaValue* key = g->meta("llama.attention.sliding_window");
    ASSERT_EQ(key == nullptr, told.empty());
    if (key) {
      EXPECT_EQ(fmt::format("the last {} tokens", std::get<uint32_t>(key->v)), told);
    }
  }
  for (const auto& [value, shown] : {std::pair<Json, const char*>{"4096", "\"4096\""}, {0, "is 0"}, {-5, "is -5"}, {1.5, "is 1.5"}})
    expect_error(to_gguf(with({{"architectures", mistral}, {"sliding_window", value}})), {"sliding_window", shown});
}

TEST(ConfigContradictions, APreTokenizerOverOneThatIsKnownIsWarnedOf) {
  for (const auto& [name, warned] : {std::pair{"qwen2", true}, {"llama-bpe", false}}) {
    std::string warning;
    ToGgufOptions o;
    o.pre_tokenizer = name;
    o.on_warning = [&](const std::string& text) { warning += text; };
    ASSERT_TRUE(to_gguf(example_base(), o).ok());
    EXPECT_EQ(!warning.empty(), warned) << warning;
    if (warned) {
      EXPECT_NE(warning.find("qwen2 overrides llama-bpe"), std::string::npos) << warning;
    }
  }
}

// PEFT takes its default where the key is missing, and fails where it is null.
TEST(ConfigContradictions, ANullOfAnAdapterIsNoDefault) {
  for (const char* key : {"lora_alpha", "r", "bias"}) {
    Artifact adapter = example_adapter("lora-code");
    auto config = parse_json(adapter.files["adapter_config.json"], "a");
    ASSERT_TRUE(config.ok());
    (*config)[key] = nullptr;
    adapter.files["adapter_config.json"] = config->dump();
    expect_error(lora_merge(example_base(), {{adapter, 1}}), {"adapter_config.json", std::string("'") + key + "' is null", "expected"});
  }
}

}  // namespace
}  // namespace ingot::transform
