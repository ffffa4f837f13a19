#include "transform/key_names.h"

#include <gtest/gtest.h>

#include <set>

#include "transform/lora_keys.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace testing;

KnownName among(std::set<std::string> names) {
  return [names = std::move(names)](const std::string& n) { return names.count(n) > 0; };
}

TEST(KeyNames, NamesThatAreKnownStayAsTheyAre) {
  // Even where they look like a wrapper's.
  const auto p = plain_names({"module.weight", "model.x.weight"}, among({"module.weight", "model.x.weight"}));
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p.names, (std::vector<std::string>{"module.weight", "model.x.weight"}));
  EXPECT_EQ(p.changes, "");
}

TEST(KeyNames, OneThatFindsNothingIsNamedAsAreTwoThatFindTheSame) {
  const auto unknown = plain_names({"module.a", "module.z", "y"}, among({"a", "b"}));
  EXPECT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.unknown, "module.z");
  EXPECT_EQ(unknown.first, "");
  EXPECT_EQ(unknown.names, (std::vector<std::string>{"module.a", "module.z", "y"}));
  EXPECT_EQ(unknown.changes, "");
  const auto same = plain_names({"b", "module.a", "a"}, among({"a", "b"}));
  EXPECT_FALSE(same.ok());
  EXPECT_EQ(same.first, "module.a");
  EXPECT_EQ(same.second, "a");
  EXPECT_FALSE(plain_names({""}, among({"a"})).ok());
  EXPECT_TRUE(plain_names({}, among({})).ok());
}

TEST(KeyNames, WhatNoModelHasGoesEvenWhereOneNameIsNotKnown) {
  using Names = std::vector<std::string>;
  const auto p = plain_names({"_orig_mod.a", "module._orig_mod.visual.x", "module.b"}, among({"a", "b"}));
  EXPECT_EQ(p.unknown, "module._orig_mod.visual.x");
  EXPECT_EQ(p.names, (Names{"a", "module.visual.x", "module.b"}));
  EXPECT_EQ(p.changes, "'_orig_mod.' taken off (torch.compile), 2 names");
  // Not where two would have the same name then.
  const auto same = plain_names({"_orig_mod.z", "z", "a"}, among({"a"}));
  EXPECT_EQ(same.names, (Names{"_orig_mod.z", "z", "a"}));
  EXPECT_EQ(same.changes, "");
}

TEST(KeyNames, APrefixThatNobodyListed) {
  const auto base = among({"model.a.w", "model.b.w", "lm_head.w"});
  const auto p = plain_names({"net.model.a.w", "net.lm_head.w"}, base);
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p.names, (std::vector<std::string>{"model.a.w", "lm_head.w"}));
  EXPECT_EQ(p.changes, "'net.' taken off (a wrapper's), 2 names");
  for (const char* prefix : {"net.", "net.model.", "model.llm.", "my.net.", "my.net.model.", "_orig_mod.net.module.", "net.model.model."}) {
    const auto q = plain_names({prefix + std::string("a.w"), prefix + std::string("b.w")}, base);
    EXPECT_TRUE(q.ok()) << prefix;
    EXPECT_EQ(q.names, (std::vector<std::string>{"model.a.w", "model.b.w"})) << prefix;
  }
  // Not in front of all, a third part, another model's, and one that may be two.
  EXPECT_FALSE(plain_names({"net.model.a.w", "model.b.w"}, base).ok());
  EXPECT_FALSE(plain_names({"net.model.a.w", "net.c.w"}, base).ok());
  EXPECT_FALSE(plain_names({"my.own.net.model.a.w"}, base).ok());
  EXPECT_FALSE(plain_names({"vision_tower.a.w"}, base).ok());
  EXPECT_FALSE(plain_names({"model.encoder.a.w"}, base).ok());
  EXPECT_FALSE(plain_names({"x.y.a"}, among({"y.a", "a"})).ok());
  const std::string origin = likely_origin("net.model.a.w", base);
  EXPECT_NE(origin.find("without the prefix 'net.' it would be 'model.a.w'"), std::string::npos) << origin;
}

TEST(KeyNames, LongNamesAreLeftAlone) {
  const auto repeated = [](const std::string& part, size_t times) {
    std::string s;
    for (size_t i = 0; i < times; ++i) s += part;
    return s;
  };
  const auto base = among({"x", "model.x"});
  for (const std::string& name : {repeated("model.", 200'000) + "x", repeated("module.", 2'000'000) + "x", repeated("_orig_mod.", 101) + "x"}) {
    const auto p = plain_names({name}, base);
    EXPECT_FALSE(p.ok());
    EXPECT_EQ(p.names[0], name);
    EXPECT_LT(likely_origin(name, base).size(), 300u);
  }
  EXPECT_TRUE(plain_names({repeated("_orig_mod.", 90) + "x"}, base).ok());
  EXPECT_TRUE(plain_names({repeated("module.", 140) + "x"}, base).ok());
  EXPECT_FALSE(plain_names({repeated("model.", 20) + "x"}, base).ok());
  EXPECT_EQ(brief_name(repeated("x", 101)), repeated("x", 100) + "..");
  EXPECT_EQ(brief_name(repeated("x", 100)), repeated("x", 100));
}

TEST(KeyNames, EachWrapperIsToldWithItsOriginAndTheNumberOfNames) {
  const auto p = plain_names({"module._orig_mod.a", "module.b"}, among({"a", "b"}));
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p.changes, "'_orig_mod.' taken off (torch.compile), 1 name; 'module.' taken off (DataParallel or DeepSpeed), 2 names");
  // Only whole parts.
  EXPECT_FALSE(plain_names({"submodule.a"}, among({"suba"})).ok());
  EXPECT_FALSE(plain_names({"x_orig_mod.a"}, among({"xa"})).ok());
}

TEST(KeyNames, TheOriginOfANameThatIsNotKnown) {
  EXPECT_NE(likely_origin("_orig_mod.visual.x", among({"x"})).find("torch.compile"), std::string::npos);
  EXPECT_NE(likely_origin("x.lora_A.default.weight", among({"x"})).find("PEFT"), std::string::npos);
  EXPECT_NE(likely_origin("language_model.x", among({"x"})).find("vision"), std::string::npos);
  EXPECT_NE(likely_origin("visual.x", among({"x"})).find("without the prefix 'visual.', of another model or a wrapper, it would be 'x'"), std::string::npos);
  EXPECT_EQ(likely_origin("visual.x", among({"y"})), "");
}

// A base of the class, through with_plain_names(): its names, and what was told.
std::pair<std::vector<std::string>, std::string> opened(const char* architecture, const std::vector<std::string>& names) {
  Artifact a;
  a.path = "base", a.naming = "hf";
  a.files["config.json"] = fmt::format(R"({{"architectures": ["{}"]}})", architecture);
  for (const auto& n : names) a.tensors.push_back({n, f32_tensor({2, 2}, {1, 2, 3, 4})});
  std::string told;
  const auto out = with_plain_names(std::move(a), [&](const std::string& text) { told += text; });
  EXPECT_TRUE(out.ok()) << out.error().message;
  std::vector<std::string> plain;
  for (const auto& t : out->tensors) plain.push_back(t.name);
  return {plain, told};
}

TEST(KeyNames, ABaseThatIsNotKnownWhole) {
  using Names = std::vector<std::string>;
  const auto [names, told] = opened("LlamaForCausalLM", {"_orig_mod.model.norm.weight", "_orig_mod.visual.x"});
  EXPECT_EQ(names, (Names{"model.norm.weight", "visual.x"}));
  EXPECT_EQ(told, "'base': '_orig_mod.' taken off (torch.compile), 2 names");
  const auto [uncertain, why] = opened("LlamaForCausalLM", {"_orig_mod.module.model.norm.weight", "_orig_mod.module.visual.x"});
  EXPECT_EQ(uncertain, (Names{"module.model.norm.weight", "module.visual.x"}));
  EXPECT_NE(why.find("; 'module.visual.x' is no tensor of the model ('module.' in it is DataParallel or DeepSpeed's)"), std::string::npos) << why;
  const auto [part, part_told] = opened("LlamaForCausalLM", {"pretrained_model.model.norm.weight", "v_head.summary.weight"});
  EXPECT_EQ(part, (Names{"pretrained_model.model.norm.weight", "v_head.summary.weight"}));
  EXPECT_NE(part_told.find("without the prefix 'pretrained_model.' it would be 'model.norm.weight'"), std::string::npos) << part_told;
  const auto [twice, twice_told] = opened("LlamaForCausalLM", {"module.model.norm.weight", "model.norm.weight"});
  EXPECT_EQ(twice, (Names{"module.model.norm.weight", "model.norm.weight"}));
  EXPECT_NE(twice_told.find("'module.model.norm.weight' and 'model.norm.weight' would be the same tensor"), std::string::npos) << twice_told;
  // One that is not Llama's and has nothing of a wrapper is for the user of the model to judge.
  EXPECT_EQ(opened("LlamaForCausalLM", {"model.norm.weight", "visual.x"}).second, "");
}

TEST(KeyNames, ABaseOfAnArchitectureThatIsNotKnown) {
  using Names = std::vector<std::string>;
  const auto [names, told] = opened("OddForCausalLM", {"module._orig_mod.a.w", "module.b.w", "base_model.model.c"});
  EXPECT_EQ(names, (Names{"module.a.w", "module.b.w", "base_model.model.c"}));
  EXPECT_EQ(told, "'base': '_orig_mod.' taken off (torch.compile), 1 name");
  EXPECT_EQ(opened("OddForCausalLM", {"net.a", "net.b"}).first, (Names{"net.a", "net.b"}));
  // A long name is as it is, and keeps none of the others from theirs.
  const std::string longer = "_orig_mod." + std::string(1000, 'x');
  EXPECT_EQ(opened("OddForCausalLM", {"_orig_mod.a", longer}).first, (Names{"a", longer}));
}

TEST(KeyNames, TheWeightsOfAnAdapterAreNoModel) {
  const auto refusal = [](const std::string& path, const std::vector<std::string>& names) {
    Artifact a;
    a.path = path, a.naming = "hf";
    for (const auto& n : names) a.tensors.push_back({n, f32_tensor({2, 2}, {1, 2, 3, 4})});
    auto out = with_plain_names(a, {});
    return out.ok() ? "" : out.error().message;
  };
  const std::string factor = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  for (const std::string& said : {refusal("lora/adapter_model.safetensors", {factor, "base_model.model.lm_head.weight"}),
                                  refusal("lora/adapter_model.safetensors", {"base_model.model.score.weight"}), refusal("lora/renamed.safetensors", {factor})}) {
    EXPECT_NE(said.find("the weights of an adapter, not of a model"), std::string::npos) << said;
    EXPECT_NE(said.find("'lora'"), std::string::npos) << said;
  }
  EXPECT_NE(refusal("whole.safetensors", {factor, "base_model.model.lm_head.weight"}).find("saved whole"), std::string::npos);
  EXPECT_NE(refusal("directory", {factor}).find("saved whole"), std::string::npos);
}

Artifact keys(const std::vector<std::string>& names) {
  Artifact a;
  a.path = "adapter", a.naming = "peft";
  for (const auto& n : names) a.tensors.push_back({n, f32_tensor({2, 2}, {1, 2, 3, 4})});
  return a;
}
const KnownName kBase = among({"m.a.weight", "m.a.bias", "m.lora_A.weight", "e.weight"});

TEST(LoraKeys, EveryFormOfAKey) {
  struct Case {
    const char *key, *slot;
  };
  const auto slot_of = [](const LoraKeys& k) -> std::string {
    for (const auto& [n, m] : k.modules) return n + (m.b_bias ? " b_bias" : m.a ? " a" : " b") + (m.embedding ? " embedding" : "");
    for (const auto& [n, t] : k.replaced) return n + " replaced";
    for (const auto& [n, t] : k.base_copies) return n + " copy";
    for (const auto& [n, t] : k.token_rows) return n + " rows";
    return "nothing";
  };
  for (const auto& [key, slot] : std::initializer_list<Case>{
           {"base_model.model.m.a.lora_A.weight", "m.a a"},
           {"base_model.model.m.a.lora_B.x.weight", "m.a b"},
           {"base_model.model.m.a.lora_B.bias", "m.a b_bias"},
           {"base_model.model.m.a.lora_B.x.bias", "m.a b_bias"},
           {"base_model.model.e.lora_embedding_A", "e a embedding"},
           {"base_model.model.e.lora_embedding_B.default", "e b embedding"},
           {"base_model.model.e.base_layer.weight", "e.weight copy"},
           {"base_model.model.e.token_adapter.base_layer.weight", "e.weight copy"},
           {"base_model.model.e.token_adapter.trainable_tokens_delta", "e rows"},
           {"base_model.model.e.token_adapter.trainable_tokens_delta.default", "e rows"},
           {"base_model.model.e.token_adapter.token_indices.default", "nothing"},
           {"base_model.model.e.modules_to_save.weight", "e.weight replaced"},
           {"base_model.model.e.modules_to_save.default.weight", "e.weight replaced"},
           {"base_model.model.e.original_module.weight", "e.weight copy"},
           {"base_model.model.m.a.bias", "m.a.bias replaced"},
           {"base_model.model.m.a.base_layer.bias", "m.a.bias replaced"},
           {"m.a.weight", "m.a.weight replaced"},
           {"_orig_mod.base_model.model.m.a.lora_A.default.weight", "m.a a"},
           {"base_model.model._fsdp_wrapped_module.m._fsdp_wrapped_module.a.lora_A.weight", "m.a a"},
           {"base_model.model.net.m.a.lora_A.weight", "m.a a"},
       }) {
    const auto k = read_lora_keys(keys({key}), kBase);
    ASSERT_TRUE(k.ok()) << key << ": " << k.error().message;
    EXPECT_EQ(slot_of(*k), slot) << key;
  }
}

TEST(LoraKeys, HostileKeys) {
  for (const char* key : {"", ".", ".lora_A.weight", "lora_A.weight", "base_model.model.", "base_model.model..lora_A.weight", ".modules_to_save.", "x.modules_to_save.",
                          "x.original_module.", "base_layer.weight", "a.lora_A..weight", "base_model.model.base_model.model.base_model.model.", "model.model.model.model."}) {
    const auto k = read_lora_keys(keys({key}), kBase);
    EXPECT_FALSE(k.ok()) << key;
  }
  const auto twice = read_lora_keys(keys({"base_model.model.m.a.lora_A.weight", "base_model.model.m.a.lora_A.default.weight"}), kBase);
  ASSERT_FALSE(twice.ok());
  EXPECT_NE(twice.error().message.find("the same tensor"), std::string::npos) << twice.error().message;
}

TEST(LoraKeys, NamesThatDoNotFitAreRefusedWithTheReason) {
  const auto error = [](const std::vector<std::string>& names) {
    const auto k = read_lora_keys(keys(names), kBase);
    EXPECT_FALSE(k.ok());
    return k.ok() ? "" : k.error().message;
  };
  // One spelling for lora_A and another for lora_B: not of one file.
  const std::string same = error({"base_model.model.m.a.lora_A.weight", "base_model.model.module.m.a.lora_B.weight"});
  EXPECT_NE(same.find("'m.a.weight' and 'module.m.a.weight' are the same tensor"), std::string::npos) << same;
  const std::string unknown = error({"base_model.model.module.m.a.lora_A.weight", "base_model.model.module.q.lora_A.weight"});
  EXPECT_NE(unknown.find("no module 'module.q', which 'base_model.model.module.q.lora_A.weight' is for ('module.' in it is DataParallel or"), std::string::npos) << unknown;
  const std::string part = error({"base_model.model.net.m.a.lora_A.weight", "base_model.model.e.lora_embedding_A"});
  EXPECT_NE(part.find("without the prefix 'net.' it would be 'm.a.weight'"), std::string::npos) << part;
  EXPECT_LT(error({std::string(1'000'000, 'x') + ".lora_A.weight"}).size(), 600u);
}

}  // namespace
}  // namespace ingot::transform
