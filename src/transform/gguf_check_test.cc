#include "transform/gguf_check.h"

#include <functional>

#include "transform/gguf_map.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Artifact good() {
  static const Artifact a = [] {
    auto g = to_gguf(example_base());
    EXPECT_TRUE(g.ok()) << g.error().message;
    return g.ok() ? *g : Artifact();
  }();
  return a;
}
void set(Artifact* a, const std::string& key, auto value) {
  for (auto& [k, v] : a->metadata)
    if (k == key) {
      v.v = value;
      return;
    }
  a->metadata.emplace_back(key, MetaValue{value});
}
void erase(Artifact* a, const std::string& key) {
  std::erase_if(a->metadata, [&](const auto& kv) { return kv.first == key; });
}
void drop(Artifact* a, const std::string& part) {
  drop_if(a, [&](const auto& t) { return t.name.find(part) != std::string::npos; });
}
void reshape(Artifact* a, const std::string& name, Shape shape) {
  set_node(a, name, f32_tensor(shape, std::vector<float>(static_cast<size_t>(shape.elements()))));
}
std::vector<std::string> tokens(int n) { return std::vector<std::string>(static_cast<size_t>(n), "x"); }
// All that would contradict another length of the list.
void set_tokens(Artifact* a, int n) {
  set(a, "tokenizer.ggml.tokens", tokens(n));
  erase(a, "tokenizer.ggml.token_type");
}

using Change = std::function<void(Artifact*)>;

TEST(GgufCheck, AModelThatContradictsItselfIsRefused) {
  const struct {
    const char* what;
    Change change;
    std::vector<std::string> parts;  // found and expected
  } cases[] = {
      {"no architecture", [](auto* a) { erase(a, "general.architecture"); }, {"no general.architecture"}},
      {"architecture a number", [](auto* a) { set(a, "general.architecture", uint32_t{1}); }, {"no general.architecture"}},
      {"fewer layers", [](auto* a) { set(a, "llama.block_count", uint32_t{5}); }, {"'blk.5.", "in layer 5", "block_count says 5 layers (0 to 4)"}},
      {"more layers", [](auto* a) { set(a, "llama.block_count", uint32_t{7}); }, {"block_count says 7 layers", "tensors of 6", "layer 6"}},
      {"a layer gone", [](auto* a) { drop(a, "blk.2."); }, {"block_count says 6 layers", "tensors of 5", "none of layer 2"}},
      {"all layers gone", [](auto* a) { drop(a, "blk."); }, {"block_count says 6 layers", "only 3 tensors"}},
      {"a billion layers", [](auto* a) { set(a, "llama.block_count", uint32_t{1} << 30); }, {"1073741824 layers", "tensors of 6"}},
      {"no layers", [](auto* a) { set(a, "llama.block_count", uint32_t{0}); }, {"layer 0", "block_count says 0"}},
      {"layers as text", [](auto* a) { set(a, "llama.block_count", std::string("6")); }, {"llama.block_count is '6', expected a whole number"}},
      {"layers unsaid", [](auto* a) { erase(a, "llama.block_count"); }, {"does not say layers", "llama.block_count (absent)"}},
      {"a tensor gone", [](auto* a) { drop(a, "blk.3.ffn_up.weight"); }, {"'blk.3.ffn_up.weight' is missing"}},
      {"embedding gone", [](auto* a) { drop(a, "token_embd"); }, {"'token_embd.weight' is missing"}},
      {"norm gone", [](auto* a) { drop(a, "output_norm"); }, {"'output_norm.weight' is missing"}},
      {"more tokens", [](auto* a) { set_tokens(a, 4097); }, {"4097 tokens", "only 4096 rows"}},
      {"fewer tokens", [](auto* a) { set_tokens(a, 4000), set(a, "llama.vocab_size", uint32_t{4000}); }, {"4096 rows", "4000 tokens"}},
      {"token types", [](auto* a) { set(a, "tokenizer.ggml.token_type", std::vector<int32_t>(7, 1)); }, {"token_type has 7 entries for 4096 tokens"}},
      {"scores", [](auto* a) { set(a, "tokenizer.ggml.scores", std::vector<float>(7, 1)); }, {"scores has 7 entries for 4096 tokens"}},
      {"tokens a number", [](auto* a) { set(a, "tokenizer.ggml.tokens", uint32_t{3}); }, {"tokens is no list"}},
      {"hidden", [](auto* a) { set(a, "llama.embedding_length", uint32_t{512}); }, {"'token_embd.weight' is [4096, 256]", "embedding_length says rows of 512"}},
      {"ffn", [](auto* a) { set(a, "llama.feed_forward_length", uint32_t{1024}); }, {"ffn_gate.weight' is [768, 256]", "makes it [1024, 256]", "llama.feed_forward_length 1024"}},
      {"heads 0", [](auto* a) { set(a, "llama.attention.head_count", uint32_t{0}); }, {"llama.attention.head_count is 0, expected at least 1"}},
      {"kv heads 0", [](auto* a) { set(a, "llama.attention.head_count_kv", uint32_t{0}); }, {"head_count_kv is 0"}},
      {"heads", [](auto* a) { set(a, "llama.attention.head_count", uint32_t{16}); }, {"attn_q.weight' is [256, 256]", "[512, 256]", "llama.attention.head_count 16"}},
      {"kv heads do not divide", [](auto* a) { set(a, "llama.attention.head_count_kv", uint32_t{3}); }, {"head_count 8", "head_count_kv 3", "multiple"}},
      {"key length", [](auto* a) { set(a, "llama.attention.key_length", uint32_t{64}); }, {"key_length is 64", "value_length is 32"}},
      {"value length", [](auto* a) { set(a, "llama.attention.value_length", uint32_t{64}); }, {"key_length is 32", "value_length is 64"}},
      {"rope dimensions", [](auto* a) { set(a, "llama.rope.dimension_count", uint32_t{0}); }, {"rope.dimension_count is 0"}},
      {"rope dimensions against a computed head", [](auto* a) {
         for (const char* k : {"key_length", "value_length"}) erase(a, std::string("llama.attention.") + k);
         set(a, "llama.rope.dimension_count", uint32_t{16});
       }, {"rope.dimension_count is 16", "makes it 32", "llama.embedding_length 256 / llama.attention.head_count 8"}},
      {"heads do not divide", [](auto* a) {
         for (const char* k : {"key_length", "value_length"}) erase(a, std::string("llama.attention.") + k);
         set(a, "llama.attention.head_count", uint32_t{12}), set(a, "llama.attention.head_count_kv", uint32_t{4});
       }, {"does not say head_dim", "llama.embedding_length (256) / llama.attention.head_count (12), a whole number"}},
      {"q", [](auto* a) { reshape(a, "blk.1.attn_q.weight", {256, 128}); }, {"'blk.1.attn_q.weight' is [256, 128]", "makes it [256, 256]"}},
      {"output", [](auto* a) { reshape(a, "output.weight", {4000, 256}); }, {"'output.weight' is [4000, 256]", "makes it [4096, 256]"}},
      {"norm", [](auto* a) { reshape(a, "blk.0.attn_norm.weight", {255}); }, {"attn_norm.weight' is [255]", "[256]"}},
      {"embedding 1-D", [](auto* a) { reshape(a, "token_embd.weight", {4096}); }, {"'token_embd.weight' is [4096]"}},
      {"rope freqs", [](auto* a) { a->tensors.push_back({"rope_freqs.weight", f32_tensor({8}, std::vector<float>(8, 1))}); }, {"'rope_freqs.weight' is [8]", "16 pairs"}},
      {"an adapter", [](auto* a) { set(a, "general.type", std::string("adapter")); }, {"general.type is 'adapter', expected 'model'"}},
      {"a vocabulary", [](auto* a) { a->tensors = {}; }, {"no tensors"}},
  };
  for (const auto& c : cases) {
    Artifact a = good();
    c.change(&a);
    const Status s = check_gguf(a, GgufUse::kWeights);
    ASSERT_FALSE(s.ok()) << c.what;
    EXPECT_EQ(s.error().kind, ErrorKind::kBadInput);
    for (const auto& p : c.parts) EXPECT_NE(s.error().message.find(p), std::string::npos) << c.what << ": " << s.error().message;
    EXPECT_NE(s.error().message.find(a.path), std::string::npos) << s.error().message;
  }
}

// Weights are as good without: llama.cpp warns of such ids and goes on.
TEST(GgufCheck, SpecialIdsOfNoTokenAreTheTokenizersFaults) {
  Artifact a = good();
  EXPECT_TRUE(examine_gguf(a).token_faults.empty()) << examine_gguf(a).token_faults[0];
  set(&a, "tokenizer.ggml.fim_pre_token_id", uint32_t{4096});
  set(&a, "tokenizer.ggml.eos_token_id", int32_t{-1});
  set(&a, "tokenizer.ggml.bos_token_id", uint32_t{4095});
  const GgufReport r = examine_gguf(a);
  EXPECT_TRUE(r.faults.empty()) << r.faults[0];
  EXPECT_EQ(r.token_faults.size(), 2u);
  EXPECT_TRUE(check_gguf(a, GgufUse::kWeights).ok());
}

TEST(GgufCheck, WhatRealToolsWritePasses) {
  const std::pair<const char*, Change> cases[] = {
      {"as it is", [](auto*) {}},
      {"tied output", [](auto* a) { drop_if(a, [](const auto& t) { return t.name == "output.weight"; }); }},
      {"rope factors", [](auto* a) { a->tensors.push_back({"rope_freqs.weight", f32_tensor({16}, std::vector<float>(16, 1))}); }},
      {"tensors of other tools", [](auto* a) {
         a->tensors.push_back({"blk.0.attn_rot_embd", f32_tensor({4}, {1, 2, 3, 4})});
         a->tensors.push_back({"something.else", f32_tensor({1}, {1})});
       }},
      {"no tokenizer", [](auto* a) { erase(a, "tokenizer.ggml.tokens"), erase(a, "tokenizer.ggml.token_type"); }},
      {"no vocab_size", [](auto* a) { erase(a, "llama.vocab_size"); }},
      {"lengths left to be computed", [](auto* a) {
         for (const char* k : {"attention.key_length", "attention.value_length", "rope.dimension_count"}) erase(a, std::string("llama.") + k);
       }},
      {"other widths of numbers", [](auto* a) { set(a, "llama.block_count", int64_t{6}), set(a, "llama.attention.head_count", uint16_t{8}); }},
      {"a number for each layer", [](auto* a) {
         set(a, "llama.attention.head_count", std::vector<int32_t>(6, 8));
         set(a, "llama.feed_forward_length", std::vector<uint32_t>(6, 768));
       }},
      {"biases", [](auto* a) { a->tensors.push_back({"blk.0.attn_q.bias", f32_tensor({256}, std::vector<float>(256, 1))}); }},
      {"a vector with a dimension of 1", [](auto* a) { reshape(a, "output_norm.weight", {1, 256}); }},
      {"fused", [](auto* a) {
         for (const char* k : {"attn_q.", "attn_k.", "attn_v."}) drop(a, std::string("blk.4.") + k);
         a->tensors.push_back({"blk.4.attn_qkv.weight", f32_tensor({512, 256}, std::vector<float>(512 * 256))});
       }},
      {"experts", [](auto* a) {
         drop(a, ".ffn_gate."), drop(a, ".ffn_up."), drop(a, ".ffn_down.");
         set(a, "llama.expert_count", uint32_t{2}), set(a, "llama.expert_used_count", uint32_t{1});
         for (int i = 0; i < 6; ++i) {
           const auto stack = [&](const char* part, const Shape& shape) {
             a->tensors.push_back({fmt::format("blk.{}.{}.weight", i, part), f32_tensor(shape, std::vector<float>(static_cast<size_t>(shape.elements())))});
           };
           stack("ffn_gate_inp", {2, 256}), stack("ffn_gate_exps", {2, 768, 256}), stack("ffn_up_exps", {2, 768, 256}), stack("ffn_down_exps", {2, 256, 768});
         }
       }},
  };
  for (const auto& [what, change] : cases) {
    Artifact a = good();
    change(&a);
    const Status s = check_gguf(a, GgufUse::kWeights);
    EXPECT_TRUE(s.ok()) << what << ": " << s.error().message;
    EXPECT_TRUE(examine_gguf(a).warnings.empty()) << what;
  }
}

TEST(GgufCheck, APaddedEmbeddingPassesWithAWarning) {
  for (const bool said : {true, false}) {
    Artifact a = good();
    set_tokens(&a, 4090);
    if (!said) erase(&a, "llama.vocab_size");
    EXPECT_TRUE(check_gguf(a, GgufUse::kWeights).ok());
    const auto warnings = examine_gguf(a).warnings;
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("4096 rows for the tokenizer's 4090 tokens"), std::string::npos) << warnings[0];
  }
}

TEST(GgufCheck, AVocabularyAloneIsATokenizer) {
  Artifact a = good();
  a.tensors = {};
  EXPECT_TRUE(check_gguf(a, GgufUse::kTokenizer).ok());
  EXPECT_TRUE(examine_gguf(a).faults.empty());
  a = good();
  set_tokens(&a, 5000);
  EXPECT_FALSE(check_gguf(a, GgufUse::kTokenizer).ok());
}

// An architecture that ingot has no table of: what its metadata states in general, and nothing else.
Artifact unknown() {
  Artifact a;
  a.path = "u.gguf";
  a.naming = "gguf";
  set(&a, "general.architecture", std::string("mamba"));
  set(&a, "mamba.block_count", uint32_t{2});
  set(&a, "mamba.embedding_length", uint32_t{4});
  set(&a, "mamba.attention.head_count", uint32_t{0});
  set(&a, "mamba.feed_forward_length", uint32_t{0});
  set(&a, "tokenizer.ggml.tokens", tokens(3));
  const auto zeros = [](Shape s) { return f32_tensor(s, std::vector<float>(static_cast<size_t>(s.elements()))); };
  a.tensors.push_back({"token_embd.weight", zeros({3, 4})});
  for (const char* name : {"blk.0.ssm_in.weight", "blk.1.ssm_in.weight"}) a.tensors.push_back({name, zeros({7, 4})});
  return a;
}

TEST(GgufCheck, AnUnknownArchitectureIsCheckedInGeneralOnly) {
  EXPECT_TRUE(check_gguf(unknown(), GgufUse::kWeights).ok()) << check_gguf(unknown(), GgufUse::kWeights).error().message;
  Artifact a = unknown();
  drop(&a, "token_embd");
  EXPECT_TRUE(check_gguf(a, GgufUse::kWeights).ok());
  a = unknown();
  drop(&a, "blk.");  // layers under names of their own (enc.blk.0, convnext.0)
  EXPECT_TRUE(check_gguf(a, GgufUse::kWeights).ok());
  // A layer may be without weights where each layer has a number of its own (Deci).
  a = unknown();
  drop(&a, "blk.1.");
  EXPECT_FALSE(check_gguf(a, GgufUse::kWeights).ok());
  set(&a, "mamba.attention.head_count", std::vector<int32_t>{8, 0});
  EXPECT_TRUE(check_gguf(a, GgufUse::kWeights).ok());
  const std::pair<Change, const char*> cases[] = {
      {[](auto* a) { set(a, "mamba.block_count", uint32_t{1}); }, "in layer 1"},
      {[](auto* a) { set(a, "mamba.block_count", uint32_t{3}); }, "none of layer 2"},
      {[](auto* a) { set(a, "mamba.embedding_length", uint32_t{5}); }, "rows of 5"},
      {[](auto* a) { set(a, "tokenizer.ggml.tokens", tokens(4)); }, "4 tokens"}};
  for (const auto& [change, part] : cases) {
    a = unknown();
    change(&a);
    const Status s = check_gguf(a, GgufUse::kWeights);
    ASSERT_FALSE(s.ok()) << part;
    EXPECT_NE(s.error().message.find(part), std::string::npos) << s.error().message;
  }
}

}  // namespace
}  // namespace ingot::transform
