// Tied tensors, one node under two names, stay one through every transform; what a checkpoint keeps beside its tensors goes along.
#include <cmath>

#include "transform/class_rules.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

// The example, with the matrices, the norms and the two embeddings of layers 0 and 1 tied.
const std::vector<std::pair<std::string, std::string>> kTied = {
    {"model.embed_tokens.weight", "lm_head.weight"},
    {"model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"},
    {"model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.weight"},
    {"model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"}};

Artifact tied_base() {
  Artifact a = example_base();
  for (const auto& [one, other] : kTied) set_node(&a, other, a.find(one)->node);
  a.values["step"] = "12";
  return a;
}

void expect_tied(const Result<Artifact>& r, const std::vector<std::pair<std::string, std::string>>& names) {
  ASSERT_TRUE(r.ok()) << r.error().message;
  for (const auto& [one, other] : names) {
    ASSERT_TRUE(r->find(one) && r->find(other)) << one << ", " << other;
    EXPECT_EQ(r->find(one)->node, r->find(other)->node) << one << ", " << other;
  }
}

TEST(Tied, StayOneThroughCasts) {
  const Artifact base = tied_base();
  for (DType to : {DType::kF32, DType::kF16, DType::kBF16}) expect_tied(cast_floats(base, to), kTied);
  const auto f32 = cast_floats(base, DType::kF32);
  EXPECT_NE(f32->find("lm_head.weight")->node, base.find("lm_head.weight")->node);
  EXPECT_EQ(f32->values, base.values);
  expect_tied(cast_like(*f32, base), kTied);
  // Of another type under each name they are two.
  Artifact mixed = base;
  set_node(&mixed, "lm_head.weight", f32->find("lm_head.weight")->node);
  const auto two = cast_like(*f32, mixed);
  EXPECT_NE(two->find("lm_head.weight")->node, two->find("model.embed_tokens.weight")->node);
}

TEST(Tied, StayOneThroughAMergeThatTouchesNeither) {
  const Artifact base = tied_base();
  const auto merged = lora_merge(base, {{example_adapter("lora-prose"), 1}});  // q_proj, v_proj and down_proj
  expect_tied(merged, kTied);
  EXPECT_EQ(merged->values, base.values);
  EXPECT_NE(merged->find("model.layers.0.self_attn.q_proj.weight")->node, base.find("model.layers.0.self_attn.q_proj.weight")->node);
}

// As transformers' save_pretrained leaves them out; where the configuration ties nothing, loading needs both.
TEST(Tied, NamesThatLoadingTiesAgainAreNotSaved) {
  const auto names = [](Artifact a, const std::string& config) {
    a.naming = "hf";
    a.files["config.json"] = config;
    std::string all;
    for (const auto& t : without_ties(std::move(a)).tensors) all += t.name + " ";
    return all;
  };
  const NodePtr tied = f32_tensor({2}, {1, 2}), other = f32_tensor({2}, {1, 2});
  Artifact a;
  a.tensors = {{"model.embed_tokens.weight", tied}, {"model.norm.weight", other}, {"lm_head.weight", tied}};
  const std::string llama = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama")";
  EXPECT_EQ(names(a, llama + R"(, "tie_word_embeddings": true})"), "model.embed_tokens.weight model.norm.weight ");
  for (const char* end : {R"(, "tie_word_embeddings": false})", "}"})
    EXPECT_EQ(names(a, llama + end), "model.embed_tokens.weight model.norm.weight lm_head.weight ");
  Artifact two = a;
  set_node(&two, "lm_head.weight", other);  // stored twice, as some tuned it
  EXPECT_EQ(names(two, llama + R"(, "tie_word_embeddings": true})"), "model.embed_tokens.weight model.norm.weight lm_head.weight ");
  Artifact gpt2;
  gpt2.tensors = {{"transformer.wte.weight", tied}, {"lm_head.weight", tied}};
  EXPECT_EQ(names(gpt2, R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"})"), "transformer.wte.weight ");
  Artifact t5;
  t5.tensors = {{"shared.weight", tied}, {"encoder.embed_tokens.weight", tied}, {"decoder.embed_tokens.weight", tied}, {"lm_head.weight", other}};
  const std::string class_of_t5 = R"({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5")";
  EXPECT_EQ(names(t5, class_of_t5 + R"(, "tie_word_embeddings": true})"), "shared.weight lm_head.weight ");
  EXPECT_EQ(names(t5, class_of_t5 + R"(, "tie_word_embeddings": false})"), "shared.weight encoder.embed_tokens.weight decoder.embed_tokens.weight lm_head.weight ");
}

TEST(Tied, StayOneInGgufAndQuantized) {
  const std::vector<std::pair<std::string, std::string>> names = {{"token_embd.weight", "output.weight"},
                                                                  {"blk.0.attn_norm.weight", "blk.1.attn_norm.weight"},
                                                                  {"blk.0.attn_k.weight", "blk.1.attn_k.weight"},
                                                                  {"blk.0.ffn_up.weight", "blk.1.ffn_up.weight"}};
  const auto gguf = to_gguf(tied_base());
  expect_tied(gguf, names);
  expect_tied(quantize_gguf(*gguf, "Q8_0"), names);
  // The embedding and the head of a Q4_K_M file have different types, and tensors with importances of their own are two.
  const auto mixed = quantize_gguf(*gguf, "Q4_K_M");
  expect_tied(mixed, {names.begin() + 1, names.end()});
  EXPECT_NE(mixed->find("token_embd.weight")->node, mixed->find("output.weight")->node);
  QuantizeOptions o;
  const int64_t columns = gguf->find("blk.0.ffn_up.weight")->spec().shape.back();
  auto imatrix = std::make_shared<Importance>();
  for (const char* name : {"blk.0.ffn_up.weight", "blk.1.ffn_up.weight"})
    imatrix->weights[name] = std::make_shared<std::vector<float>>(static_cast<size_t>(columns), name[4] == '0' ? 1.f : 2.f);
  o.imatrix = imatrix;
  const auto weighed = quantize_gguf(*gguf, "Q4_K_M", o);
  ASSERT_TRUE(weighed.ok());
  EXPECT_NE(weighed->find("blk.0.ffn_up.weight")->node, weighed->find("blk.1.ffn_up.weight")->node);
}

// The head that a tied configuration leaves out needs no comparison where it is the embedding itself.
TEST(Tied, AHeadThatIsTheEmbeddingIsNotComparedWithIt) {
  Artifact base = tied_base();
  std::string& config = base.files["config.json"];
  config.replace(config.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
  const auto gguf = to_gguf(base);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  EXPECT_EQ(gguf->find("output.weight"), nullptr);
  EXPECT_EQ(gguf->find("token_embd.weight")->node, base.find("lm_head.weight")->node);
}

TEST(Tied, AreWrittenUnderBothNames) {
  auto store = make_memory_store();
  auto v = random_floats(300 * 64, 1);
  v[77] = std::nanf("");
  Artifact a;
  a.tensors.push_back({"one", f32_tensor({300, 64}, v)});
  a.tensors.push_back({"two", a.tensors[0].node});
  auto counts = std::make_shared<CastCounts>();
  auto half = cast_floats(a, DType::kF16, counts);
  ASSERT_TRUE(half.ok());
  run_output(safetensors_output(*half, *store, "m.safetensors"));
  const Artifact b = open_or_die(*store, "m.safetensors");
  EXPECT_EQ(*evaluate(b.find("one")->node), *evaluate(b.find("two")->node));
  EXPECT_EQ(counts->total(), 1u);
}

}  // namespace
}  // namespace ingot::transform
