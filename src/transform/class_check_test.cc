// Models against their classes: what is missing, of another shape and unknown, and what may differ.
#include "transform/class_check.h"

#include "formats/json.h"
#include "transform/as_loaded.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Artifact with_config(Artifact a, const std::function<void(OrderedJson&)>& change) {
  OrderedJson j = *parse_json_ordered(a.files.at("config.json"), "c");
  change(j);
  a.files["config.json"] = json_text(j);
  return a;
}
std::string error_of(const Artifact& a, bool strict = false) {
  const auto loaded = as_loaded(a, {});
  const Status s = loaded.ok() ? check_class(*loaded, strict, {}) : Status(loaded.error());
  return s.ok() ? "" : s.error().message;
}
void expect_part(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text; }
void rename(Artifact* a, const std::string& from, const std::string& to) {
  a->tensors.edit([&](auto& all) {
    for (auto& t : all)
      if (const size_t at = t.name.find(from); at != std::string::npos) t.name.replace(at, from.size(), to);
  });
}

TEST(ClassCheck, MissingTensorsAndOtherShapesAreCountedAndNamed) {
  const Artifact base = example_base();
  EXPECT_EQ(error_of(base, true), "");
  Artifact a = base;
  drop_if(&a, [](const auto& t) { return t.name.find("layers.1.") != std::string::npos; });
  expect_part(error_of(a), "9 of the tensors that LlamaForCausalLM has by config.json are missing");
  expect_part(error_of(a), "'model.layers.1.input_layernorm.weight'");
  a = base;
  set_node(&a, "model.norm.weight", f32_tensor({128}, std::vector<float>(128)));
  expect_part(error_of(a), "1 of its tensors has another shape than config.json makes of LlamaForCausalLM: 'model.norm.weight' [128], expected [256]");
}

TEST(ClassCheck, NamesOfOthersTellWhoseTheyAre) {
  Artifact meta = example_base();
  rename(&meta, "model.layers.", "layers.");
  rename(&meta, "self_attn.q_proj", "attention.wq");
  expect_part(error_of(meta), "Meta's names, of its consolidated.00.pth");
  Artifact quanto = example_base();
  rename(&quanto, "up_proj.weight", "up_proj.weight._data");
  expect_part(error_of(quanto), "optimum-quanto's");
}

TEST(ClassCheck, WhatTheClassHasNotIsANoticeOrWithStrictAnError) {
  Artifact a = example_base();
  a.tensors.edit([](auto& all) {
    const NodePtr node = all[0].node;
    for (const char* name : {"model.extra.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.q_proj.bias"}) all.push_back({name, node});
  });
  EXPECT_EQ(error_of(a), "");
  expect_part(error_of(a, true), "2 of its tensors are none that its class has, and transformers would pass over: 'model.extra.weight', 'model.layers.0.self_attn.q_proj.bias'");
}

TEST(ClassCheck, WhatMayDifferPasses) {
  Artifact headless = example_base();
  drop_if(&headless, [](const auto& t) { return t.name == "lm_head.weight"; });
  expect_part(error_of(headless), "'lm_head.weight'");
  EXPECT_EQ(error_of(with_config(headless, [](auto& j) { j["tie_word_embeddings"] = true; })), "");
  const auto of_class = [](const char* name) {
    return [name](OrderedJson& j) { j["architectures"] = OrderedJson::array({name}); };
  };
  for (const char* other : {"LlamaModel", "LlamaForSequenceClassification"}) EXPECT_EQ(error_of(with_config(headless, of_class(other))), "") << other;
  Artifact quantized = with_config(headless, [](auto& j) { j["quantization_config"] = {{"quant_method", "gptq"}}; });
  quantized.tensors.edit([](auto& all) { all.push_back({"model.layers.0.mlp.up_proj.qweight", make_memory_tensor({DType::kI32, {1, 1}}, std::vector<std::byte>(4))}); });
  EXPECT_EQ(error_of(quantized), "");
}

}  // namespace
}  // namespace ingot::transform
