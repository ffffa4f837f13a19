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
  ASSERT_TRUE(p);
  EXPECT_EQ(p->names, (std::vector<std::string>{"module.weight", "model.x.weight"}));
  EXPECT_EQ(p->changes, "");
}

TEST(KeyNames, OneThatFindsNothingLeavesAllAsTheyAre) {
  EXPECT_FALSE(plain_names({"_orig_mod.a", "_orig_mod.z"}, among({"a", "b"})));
  EXPECT_FALSE(plain_names({"module.a", "a"}, among({"a"})));  // two for one
  EXPECT_FALSE(plain_names({""}, among({"a"})));
  EXPECT_TRUE(plain_names({}, among({})));
}

TEST(KeyNames, EachWrapperIsToldWithItsOriginAndTheNumberOfNames) {
  const auto p = plain_names({"module._orig_mod.a", "module.b"}, among({"a", "b"}));
  ASSERT_TRUE(p);
  EXPECT_EQ(p->changes, "'_orig_mod.' taken off (torch.compile), 1 name; 'module.' taken off (DataParallel or DeepSpeed), 2 names");
  // Only whole parts.
  EXPECT_FALSE(plain_names({"submodule.a"}, among({"suba", "a"})));
  EXPECT_FALSE(plain_names({"x_orig_mod.a"}, among({"xa", "a"})));
}

TEST(KeyNames, TheOriginOfANameThatIsNotKnown) {
  EXPECT_NE(likely_origin("_orig_mod.visual.x").find("torch.compile"), std::string::npos);
  EXPECT_NE(likely_origin("x.lora_A.default.weight").find("PEFT"), std::string::npos);
  EXPECT_NE(likely_origin("language_model.x").find("vision"), std::string::npos);
  EXPECT_EQ(likely_origin("visual.x"), "");
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

}  // namespace
}  // namespace ingot::transform
