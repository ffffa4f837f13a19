#include "transform/source_form.h"

#include "formats/json.h"
#include "transform/cast.h"
#include "transform/gguf_map.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Artifact form_of(const Artifact& a, std::string* why = nullptr) {
  auto form = source_form(a, why);
  EXPECT_TRUE(form.ok()) << form.error().message;
  return form.ok() ? *form : Artifact();
}

Artifact gguf_of(const Artifact& hf) {
  auto g = to_gguf(hf);
  EXPECT_TRUE(g.ok()) << g.error().message;
  return g.ok() ? *g : Artifact();
}

TEST(SourceForm, AGgufComesBackToTheNamesRowsAndValuesThatItWasMadeFrom) {
  const Artifact base = example_base(), want = *cast_floats(base, DType::kF32);
  std::string why;
  const Artifact form = form_of(gguf_of(base), &why);
  EXPECT_EQ(why, "");
  EXPECT_EQ(form.naming, "hf");
  ASSERT_EQ(form.tensors.size(), base.tensors.size());
  for (const LazyTensor& t : want.tensors) {
    const LazyTensor* same = form.find(t.name);
    ASSERT_NE(same, nullptr) << t.name;
    EXPECT_EQ(same->spec(), t.spec()) << t.name;
    EXPECT_EQ(*evaluate(same->node), *evaluate(t.node)) << t.name;
  }
}

TEST(SourceForm, FusedExpertsAreThoseThatHaveNamesOfTheirOwn) {
  Artifact fused, plain;
  fused.naming = plain.naming = "hf";
  OrderedJson config = {{"architectures", OrderedJson::array({"Qwen3MoeForCausalLM"})}, {"hidden_size", 4}, {"moe_intermediate_size", 3}, {"num_experts", 2},
                        {"num_hidden_layers", 1}, {"num_attention_heads", 1}, {"num_key_value_heads", 1}, {"head_dim", 4}, {"vocab_size", 8}, {"intermediate_size", 3},
                        {"num_experts_per_tok", 1}, {"max_position_embeddings", 8}, {"norm_topk_prob", true}};
  fused.files["config.json"] = plain.files["config.json"] = json_text(config);
  const auto v = random_floats(2 * 6 * 4 + 2 * 4 * 3, 1);
  const std::string experts = "model.layers.0.mlp.experts.";
  fused.tensors = {{experts + "gate_up_proj", f32_tensor({2, 6, 4}, {v.begin(), v.begin() + 48})}, {experts + "down_proj", f32_tensor({2, 4, 3}, {v.begin() + 48, v.end()})}};
  std::vector<LazyTensor> all;
  for (int e : {0, 1})
    for (const auto& [name, at, shape] : {std::tuple{"gate_proj", 24 * e, Shape{3, 4}}, {"up_proj", 24 * e + 12, Shape{3, 4}}, {"down_proj", 48 + 12 * e, Shape{4, 3}}})
      all.push_back({fmt::format("{}{}.{}.weight", experts, e, name), f32_tensor(shape, {v.begin() + at, v.begin() + at + 12})});
  plain.tensors = all;
  const Artifact form = form_of(fused), want = form_of(plain);
  ASSERT_EQ(form.tensors.size(), want.tensors.size());
  for (const LazyTensor& t : want.tensors) {
    const LazyTensor* same = form.find(t.name);
    ASSERT_NE(same, nullptr) << t.name;
    EXPECT_EQ(same->spec(), t.spec()) << t.name;
    EXPECT_EQ(*evaluate(same->node), *evaluate(t.node)) << t.name;
  }
}

TEST(SourceForm, QuantizedRowsGoBackToTheirOrderAsBytes) {
  const Artifact gguf = gguf_of(example_base());
  const Artifact q = *quantize_gguf(gguf, "Q8_0");
  const Artifact form = form_of(q);
  const LazyTensor *k = form.find("model.layers.2.self_attn.k_proj.weight"), *from = gguf.find("blk.2.attn_k.weight");
  ASSERT_EQ(k->spec().type, DType::kQ8_0);
  // Quantizing the source's rows gives the same blocks: each row is its own.
  const NodePtr direct = *cast("k", example_base().find(k->name)->node, DType::kQ8_0);
  EXPECT_EQ(*evaluate(k->node), *evaluate(direct));
  EXPECT_NE(*evaluate(k->node), *evaluate(*cast("k", from->node, DType::kQ8_0)));
}

TEST(SourceForm, WidensFloatsOf32BitsAtMostAndNothingElse) {
  Artifact a;
  a.naming = "hf";
  for (DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kI64, DType::kBool, DType::kF8E4M3, DType::kQ4_0,
                  DType::kQ4_K})
    a.tensors.push_back({std::string(info(t).name), make_memory_tensor({t, {1, 256}}, std::vector<std::byte>(bytes_of(t, 256)))});
  const Artifact form = form_of(a);
  for (const LazyTensor& t : form.tensors)
    EXPECT_EQ(info(t.spec().type).name, t.name == "F16" || t.name == "BF16" ? "F32" : t.name);
}

TEST(SourceForm, WhatTheSourceHasNotOrDropsIsLeftOut) {
  Artifact base = example_base();
  const size_t n = base.tensors.size();
  // Made by the converter: Llama 3's factors.
  auto config = parse_json_ordered(base.files["config.json"], "c");
  (*config)["rope_parameters"] = {{"rope_theta", 10000.0},   {"rope_type", "llama3"},     {"factor", 8.0},
                                  {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 512}};
  Artifact scaled = base;
  scaled.files["config.json"] = json_text(*config);
  const Artifact gguf = gguf_of(scaled);
  ASSERT_NE(gguf.find("rope_freqs.weight"), nullptr);
  EXPECT_EQ(form_of(gguf).tensors.size(), n);
  // Dropped by the architecture.
  Artifact older = base;
  older.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", f32_tensor({2}, {1, 2})});
  EXPECT_EQ(form_of(older).tensors.size(), n);
  // The second copy of a tied embedding, which the converter leaves out.
  Artifact tied = base;
  (*config)["tie_word_embeddings"] = true;
  tied.files["config.json"] = json_text(*config);
  EXPECT_EQ(form_of(tied).tensors.size(), n - 1);
  EXPECT_EQ(form_of(tied).find("lm_head.weight"), nullptr);
  drop_if(&tied, [](const LazyTensor& t) { return t.name == "model.embed_tokens.weight"; });
  EXPECT_EQ(form_of(tied).tensors.size(), n - 1) << "the only copy stays";
}

TEST(SourceForm, WhereItIsNotKnownItSaysSoAndTheNamesStay) {
  const auto expect_as_it_is = [](const Artifact& a, const char* part) {
    std::string why;
    const Artifact form = form_of(a, &why);
    EXPECT_NE(why.find(part), std::string::npos) << why;
    EXPECT_EQ(form.naming, a.naming);
    ASSERT_EQ(form.tensors.size(), a.tensors.size());
    for (size_t i = 0; i < a.tensors.size(); ++i) EXPECT_EQ(form.tensors[i].name, a.tensors[i].name);
  };
  const Artifact gguf = gguf_of(example_base());
  const auto with = [&](const std::string& key, MetaValue value) {
    Artifact a = gguf;
    for (auto& [k, v] : a.metadata)
      if (k == key) v = value;
    return a;
  };
  expect_as_it_is(with("general.architecture", MetaValue{std::string("mamba")}), "'mamba'");
  expect_as_it_is(with("general.architecture", MetaValue{uint32_t{3}}), "no architecture");
  expect_as_it_is(with("llama.attention.head_count", MetaValue{uint32_t{7}}), "'blk.0.attn_q.weight'");
  expect_as_it_is(with("llama.attention.head_count", MetaValue{std::string("8")}), "heads");
  Artifact more = gguf;
  more.tensors.push_back({"blk.0.ffn_up_exps.weight", f32_tensor({2}, {1, 2})});
  expect_as_it_is(more, "'blk.0.ffn_up_exps.weight'");
  Artifact hf = example_base();
  hf.files["config.json"] = R"({"architectures": ["MambaForCausalLM"]})";
  expect_as_it_is(hf, "config.json");
  hf.files["config.json"] = "{";
  expect_as_it_is(hf, "config.json");
  hf.files.clear();
  expect_as_it_is(hf, "");  // a file of weights alone has the source's names
  expect_as_it_is(example_adapter("lora-code"), "");
}

}  // namespace
}  // namespace ingot::transform
