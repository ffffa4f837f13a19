// What Model::load refuses, and how it says so: hostile metadata, missing and misshapen tensors.
#include <gtest/gtest.h>

#include <functional>

#include "infer/model.h"
#include "infer/session.h"
#include "infer/test_models.h"

namespace ingot {
namespace {

using namespace testing_models;

void refused(const std::function<void(Artifact*)>& damage, const std::string& expected) {
  Artifact a = random_model({});
  damage(&a);
  auto m =
      Model::load(a, {.threads = 1, .arithmetic = Arithmetic::kFast, .resident = true, .cancel = nullptr, .on_progress = {}});
  ASSERT_FALSE(m.ok()) << expected;
  EXPECT_EQ(m.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(m.error().message.find(expected), std::string::npos) << m.error().message;
  EXPECT_EQ(m.error().message.find("loading random: "), 0u) << m.error().message;
}
void refused_meta(const std::string& key, MetaValue v, const std::string& expected) {
  refused([&](Artifact* a) { set(a, key, v); }, expected);
}

TEST(Load, Architectures) {
  refused_meta("general.architecture", {std::string("mamba")}, "'mamba' cannot be run; known: cohere2, ");
  refused([](Artifact* a) { erase_meta(a, "general.architecture"); }, "general.architecture is missing");
  refused_meta("general.architecture", {uint32_t{1}}, "general.architecture is missing");
  refused_meta("llama.expert_count", {uint32_t{8}}, "llama.expert_used_count is missing");
}

TEST(Load, HostileNumbers) {
  for (const char* key :
       {"block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
        "feed_forward_length", "context_length", "attention.key_length"}) {
    const std::string k = std::string("llama.") + key;
    refused_meta(k, {uint32_t{0}}, k + " is 0");
    refused_meta(k, {UINT64_MAX}, k + " is 1.84");
    refused_meta(k, {int64_t{-4}}, k + " is -4");
    refused_meta(k, {std::string("4")}, k);
    refused_meta(k, {true}, k);
    refused_meta(k, {std::nanf("")}, k);
    refused_meta(k, {std::vector<int32_t>{4, 5}}, k);
    refused_meta(k, {std::vector<int32_t>{}}, k);
  }
  refused([](Artifact* a) { erase_meta(a, "llama.block_count"); }, "llama.block_count is missing");
  refused_meta("llama.attention.head_count_kv", {uint32_t{3}}, "not a multiple");
  refused_meta("llama.attention.layer_norm_rms_epsilon", {std::nanf("")}, "layer_norm_rms_epsilon");
  refused_meta("llama.rope.freq_base", {0.0f}, "freq_base");
  refused_meta("llama.rope.freq_base", {-INFINITY}, "freq_base");
  refused_meta("llama.rope.dimension_count", {uint32_t{5}}, "odd");
  refused_meta("llama.rope.dimension_count", {uint32_t{14}}, "0 to 12");
  refused_meta("llama.attention.value_length", {uint32_t{16}}, "value_length");
  refused(
      [](Artifact* a) {
        erase_meta(a, "llama.attention.key_length");
        set(a, "llama.attention.head_count", {uint32_t{5}});
        set(a, "llama.attention.head_count_kv", {uint32_t{5}});
      },
      "not a multiple of llama.attention.head_count");
}

TEST(Load, Tensors) {
  for (const char* name :
       {"token_embd.weight", "output_norm.weight", "blk.1.attn_k.weight", "blk.0.ffn_norm.weight"})
    refused([&](Artifact* a) { erase_tensor(a, name); }, std::string(name) + " is missing");
  refused_meta("llama.block_count", {uint32_t{65536}}, "blk.2.attn_norm.weight is missing");
  refused_meta("llama.feed_forward_length", {uint32_t{81}},
               "has shape [80, 48], but the model's metadata asks for [81, 48]");
  refused_meta("llama.embedding_length", {uint32_t{60}}, "'token_embd.weight' has shape [101, 48]");
  refused_meta("llama.attention.head_count_kv", {uint32_t{2}}, "attn_k.weight' has shape");
  refused(
      [](Artifact* a) {
        erase_tensor(a, "blk.0.attn_norm.weight");
        put(a, "blk.0.attn_norm.weight", DType::kI32, Shape{48}, std::vector<std::byte>(48 * 4));
      },
      "type I32");
  refused(
      [](Artifact* a) {
        erase_tensor(a, "token_embd.weight");
        put(a, "token_embd.weight", DType::kF32, Shape{48}, std::vector<std::byte>(48 * 4));
      },
      "expected [tokens, 48]");
  refused_meta("tokenizer.ggml.tokens", {std::vector<std::string>(102, "x")}, "the tokenizer has 102 tokens");
}

TEST(Load, PaddedEmbeddingAndOneNumberPerLayerAreFine) {
  Artifact a = random_model({});
  set(&a, "tokenizer.ggml.tokens", {std::vector<std::string>(90, "x")});
  set(&a, "llama.attention.head_count_kv", {std::vector<int32_t>{4, 4}});
  uint64_t last = 0, all = 0;
  LoadOptions o;
  o.on_progress = [&](uint64_t done, uint64_t total) { last = done, all = total; };
  auto m = Model::load(a, o);
  ASSERT_TRUE(m.ok()) << m.error().message;
  EXPECT_GT(last, all * 9 / 10);
  EXPECT_LE(last, all);
  // A claimed context of a million costs nothing until it is used.
  set(&a, "llama.context_length", {uint64_t{1} << 40});
  m = Model::load(a);
  ASSERT_TRUE(m.ok()) << m.error().message;
  Session s(**m);
  const int32_t token[] = {1};
  EXPECT_TRUE(s.forward(token).ok());
}

TEST(Load, RopeScaling) {
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6};
  auto logits = [&](const Artifact& a) {
    auto m = Model::load(a);
    EXPECT_TRUE(m.ok()) << m.error().message;
    Session s(**m);
    auto r = s.forward(tokens);
    return std::vector<float>(r->begin(), r->end());
  };
  const Artifact plain = random_model({});
  Artifact linear = plain, factors = plain;
  set(&linear, "llama.rope.scaling.type", {std::string("linear")});
  set(&linear, "llama.rope.scaling.factor", {2.0f});
  put(&factors, "rope_freqs.weight", DType::kF32, Shape{6},
      encode(std::vector<float>(6, 2.0f), DType::kF32, 6));
  EXPECT_NE(logits(plain), logits(linear));
  EXPECT_EQ(logits(linear), logits(factors));
}

TEST(Load, Cancel) {
  CancelToken cancel;
  cancel.cancel();
  LoadOptions o;
  o.cancel = &cancel;
  EXPECT_EQ(Model::load(random_model({}), o).error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace ingot
