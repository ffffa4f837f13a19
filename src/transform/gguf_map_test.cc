#include "transform/gguf_map.h"
#include "transform/gguf_metadata.h"

#include <cmath>

#include "formats/json.h"
#include "kernels/hash.h"
#include "transform/gguf_vocab.h"
#include "transform/lora.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Json to_json(const MetaValue& m) {
  return std::visit(
      [](const auto& v) -> Json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, MetaArray>) return Json::array();
        else return Json(v);
      },
      m.v);
}

// What we write always and the reference where the files speak of it.
void erase_silent_flags(Artifact* gguf) {
  for (const char* key : {"tokenizer.ggml.add_space_prefix", "tokenizer.ggml.add_eos_token"}) {
    ASSERT_TRUE(gguf->meta(key)) << key;
    EXPECT_EQ(std::get<bool>(gguf->meta(key)->v), false) << key;
    std::erase_if(gguf->metadata, [&](const auto& kv) { return kv.first == key; });
  }
}

// llama.cpp's own converter, on the same directory under the name "base".
TEST(ToGguf, MetadataAndTensorTableAreTheReferences) {
  Artifact base = example_base();
  base.path = "somewhere/base";
  auto g = to_gguf(base);
  ASSERT_TRUE(g.ok()) << g.error().message;
  auto f16 = quantize_gguf(*g, "F16");
  ASSERT_TRUE(f16.ok()) << f16.error().message;
  erase_silent_flags(&*f16);
  auto text = read_text(local_store(), INGOT_SOURCE_DIR "/tests/data/gguf/metadata.json");
  ASSERT_TRUE(text.ok());
  auto expected = parse_json_ordered(*text, "metadata.json");
  ASSERT_TRUE(expected.ok());
  size_t i = 0;
  for (auto it = (*expected)["metadata"].begin(); it != (*expected)["metadata"].end(); ++it) {
    if (it.key().starts_with("GGUF.")) continue;
    ASSERT_LT(i, f16->metadata.size());
    const auto& [key, value] = f16->metadata[i++];
    EXPECT_EQ(key, it.key());
    const Json want = it.value(), got = to_json(value);
    if (!want.is_object()) {
      EXPECT_EQ(got, want) << key;
      continue;
    }
    ASSERT_EQ(got.size(), want["count"].get<size_t>()) << key;
    for (size_t k = 0; k < want["first"].size(); ++k) EXPECT_EQ(got[k], want["first"][k]) << key;
    for (size_t k = 0; k < want["last"].size(); ++k) EXPECT_EQ(got[got.size() - want["last"].size() + k], want["last"][k]) << key;
  }
  EXPECT_EQ(i, f16->metadata.size());
  const auto& tensors = (*expected)["tensors"];
  ASSERT_EQ(tensors.size(), f16->tensors.size());
  for (size_t t = 0; t < tensors.size(); ++t) {
    const Json want = tensors[t];
    EXPECT_EQ(f16->tensors[t].name, want["name"].get<std::string>());
    const TensorSpec s = f16->tensors[t].spec();
    EXPECT_EQ(info(s.type).name, want["type"].get<std::string>());
    Json shape = Json::array();
    for (int d = s.shape.rank; d-- > 0;) shape.push_back(s.shape[d]);
    EXPECT_EQ(shape, want["shape"]);
  }
}

// NFC: llama.cpp does not normalize.
TEST(ToGguf, WhatItCannotSayOfATokenizerIsToldAndRefusedWhenStrict) {
  Artifact base = example_base();
  std::vector<std::string> told;
  ToGgufOptions options;
  options.on_notice = [&](const std::string& text) { told.push_back(text); };
  options.strict = true;
  ASSERT_TRUE(to_gguf(base, options).ok());
  auto tokenizer = parse_json_ordered(base.files["tokenizer.json"], "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok());
  (*tokenizer)["normalizer"] = {{"type", "NFC"}};
  base.files["tokenizer.json"] = tokenizer->dump();
  expect_error(to_gguf(base, options), {"tokenizer.json: GGUF cannot say that text is normalized (NFC)", "Without --strict"});
  EXPECT_TRUE(told.empty());
  options.strict = false;
  ASSERT_TRUE(to_gguf(base, options).ok());
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told[0].find("normalized (NFC)"), std::string::npos) << told[0];
}

// The whole files that convert_hf_to_gguf.py (llama.cpp in llama-cpp-python 0.3.36, pre-tokenizer set to llama-bpe)
// writes from examples/tiny-llama-base with --outtype f16 and f32, as XXH3-128; without the two keys that it leaves out.
TEST(ToGguf, FilesAreTheReferencesByteForByte) {
  auto g = to_gguf(example_base());
  ASSERT_TRUE(g.ok()) << g.error().message;
  auto store = make_memory_store();
  for (const auto& [type, hash] : {std::pair{"F16", "b66c45e8d53df333ffdacb77d7818ad3"}, std::pair{"F32", "f4ad6c38eb56aea57330be66e18c8db9"}}) {
    auto q = quantize_gguf(*g, type);
    ASSERT_TRUE(q.ok());
    erase_silent_flags(&*q);
    const auto files = render(gguf_output(*q, *store, "x.gguf"));
    EXPECT_EQ(to_hex(hash128(as_bytes(files.begin()->second))), hash) << type;
  }
}

TEST(ToGguf, WithoutATypeTheSourcesStays) {
  auto g = to_gguf(example_base());
  ASSERT_TRUE(g.ok());
  EXPECT_EQ(g->find("blk.0.attn_q.weight")->spec().type, DType::kBF16);
  EXPECT_EQ(g->find("blk.0.attn_norm.weight")->spec().type, DType::kF32);
  EXPECT_EQ(std::get<uint32_t>(g->meta("general.file_type")->v), 32u);
  auto vocab = gguf_vocab(*g);
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  EXPECT_EQ(vocab->tokens.size(), 4096u);
  EXPECT_EQ(vocab->bos, 0);
}

TEST(ToGguf, NamedTemplatesAreWrittenAsTheReferenceDoesAndReadAgain) {
  Artifact base = example_base();
  base.files["additional_chat_templates/tool-use.jinja"] = "T";
  base.files["additional_chat_templates/rag.jinja"] = "R";
  auto g = to_gguf(base);
  ASSERT_TRUE(g.ok()) << g.error().message;
  std::vector<std::string> keys;
  for (const auto& [key, value] : g->metadata)
    if (key.starts_with("tokenizer.chat_template")) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"tokenizer.chat_template.rag", "tokenizer.chat_template.tool_use", "tokenizer.chat_templates",
                                            "tokenizer.chat_template"}));
  const auto v = gguf_vocab(*g);
  ASSERT_TRUE(v.ok()) << v.error().message;
  EXPECT_EQ(v->chat_templates, (std::vector<std::pair<std::string, std::string>>{{"rag", "R"}, {"tool_use", "T"}}));
  EXPECT_EQ(v->chat_template, base.files["chat_template.jinja"]);
}

// transformers loads such a directory; a text that uses the token fails there.
TEST(ToGguf, TokensOfOtherFilesThanTokenizerJsonThatHaveNoRowAreLeftOutAndTold) {
  Artifact base = example_base();
  base.files["special_tokens_map.json"] = R"({"unk_token": "<unk>", "pad_token": "<|eot_id|>"})";
  std::vector<std::string> warnings;
  ToGgufOptions options;
  options.on_warning = [&](const std::string& text) { warnings.push_back(text); };
  auto g = to_gguf(base, options);
  ASSERT_TRUE(g.ok()) << g.error().message;
  const auto v = gguf_vocab(*g);
  ASSERT_TRUE(v.ok()) << v.error().message;
  EXPECT_EQ(v->tokens.size(), 4096u);
  EXPECT_FALSE(v->unk);
  EXPECT_EQ(v->pad, 4);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("4096 rows"), std::string::npos) << warnings[0];
}

// ship: base + adapter -> GGUF -> quantized, in one pass, rounds once. With the merge stored in f32 in between, in shards
// of any size, the file is the same.
TEST(ToGguf, OnePassEqualsThreeStepsByteForByte) {
  auto store = make_memory_store();
  auto merged = lora_merge(example_base(), {{example_adapter("lora-code"), 1}});
  ASSERT_TRUE(merged.ok());
  auto f32 = cast_floats(*merged, DType::kF32);
  ASSERT_TRUE(f32.ok());
  run_output(hf_directory_output(*f32, *store, "merged", 3'000'000));
  ASSERT_TRUE(is_there(*store, "merged/model.safetensors.index.json"));
  auto converted = to_gguf(open_or_die(*store, "merged"));
  ASSERT_TRUE(converted.ok()) << converted.error().message;
  run_output(gguf_output(*converted, *store, "f32.gguf"));
  auto direct = to_gguf(*merged);
  ASSERT_TRUE(direct.ok());
  for (const char* type : {"F16", "Q8_0", "Q4_K_M"}) {
    auto one = quantize_gguf(*direct, type), three = quantize_gguf(open_or_die(*store, "f32.gguf"), type);
    ASSERT_TRUE(one.ok() && three.ok());
    run_output(gguf_output(*one, *store, "one-" + std::string(type)));
    run_output(gguf_output(*three, *store, "three-" + std::string(type)));
    EXPECT_TRUE(get_file(*store, "one-" + std::string(type)) == get_file(*store, "three-" + std::string(type))) << type;
  }
}

Artifact with_config(const std::string& from, const std::string& to) {
  Artifact a = example_base();
  std::string& c = a.files["config.json"];
  const auto at = c.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  c.replace(at, from.size(), to);
  return a;
}

TEST(ToGguf, ContradictionsAreNamed) {
  const std::tuple<const char*, const char*, std::vector<std::string>> cases[] = {
      {"LlamaForCausalLM", "Rwkv9ForMaskedLM", {"Rwkv9ForMaskedLM", "LlamaForCausalLM", "config.json"}},
      {"\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7", {"model.layers.6.", "missing"}},
      {"\"hidden_size\": 256", "\"hidden_size\": 512", {"lm_head.weight", "[4096, 256]", "[4096, 512]"}},
      {"\"vocab_size\": 4096", "\"vocab_size\": 4095", {"[4096, 256]", "[4095, 256]"}},
      {"\"num_key_value_heads\": 4", "\"num_key_value_heads\": 8", {"k_proj"}},
      {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", {"hidden_act", "gelu"}},
      {"\"use_cache\": true", "\"partial_rotary_factor\": 0.5", {"partial_rotary_factor"}},
      {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e300", {"'rms_norm_eps' is 1e+300", "32-bit float"}},
      {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-300", {"'rms_norm_eps' is 1e-300", "32-bit float"}},
  };
  for (const auto& [from, to, parts] : cases) expect_error(to_gguf(with_config(from, to)), parts, to);
  Artifact a = example_base();
  a.tensors.push_back({"model.layers.0.mystery.weight", f32_tensor({1}, {1})});
  expect_error(to_gguf(a), {"model.layers.0.mystery.weight"});
  a = example_base();
  a.files.erase("tokenizer.json");
  expect_error(to_gguf(a), {"tokenizer.json"});
  a.files.erase("config.json");
  expect_error(to_gguf(a), {"config.json"});
  expect_error(to_gguf(example_adapter("lora-code")), {"peft"});
}

TEST(ToGguf, GoesByTheNamesNotByWhatTheyLieIn) {
  Artifact base = example_base();
  base.format = "torch";
  auto merged = lora_merge(base, {{example_adapter("lora-code"), 1}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  auto g = to_gguf(*merged);
  ASSERT_TRUE(g.ok()) << g.error().message;
  EXPECT_EQ(g->naming, "gguf");
  g->format = "safetensors";  // llama.cpp's names in another container
  EXPECT_TRUE(quantize_gguf(*g, "Q8_0").ok());
  expect_error(to_gguf(*g), {"expected a Hugging Face model"});
  expect_error(lora_merge(*g, {{example_adapter("lora-code"), 1}}), {"GGUF"});
  expect_error(quantize_gguf(base, "Q8_0"), {"torch, expected a GGUF model"});
}

TEST(ToGguf, TiedEmbeddingsHaveNoOutput) {
  // A head that differs from it late is found as the embedding is written.
  Artifact late = with_config("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  const NodePtr embedding = late.find("model.embed_tokens.weight")->node;
  std::vector<float> v = values(embedding);
  v.back() += 1;
  set_node(&late, "lm_head.weight", f32_tensor(embedding->spec().shape, v));
  auto lost = to_gguf(late);
  ASSERT_TRUE(lost.ok()) << lost.error().message;
  auto written = evaluate(lost->find("token_embd.weight")->node);
  ASSERT_FALSE(written.ok());
  EXPECT_NE(written.error().message.find("lm_head.weight"), std::string::npos) << written.error().message;
  EXPECT_NE(written.error().message.find("tie_word_embeddings"), std::string::npos) << written.error().message;

  Artifact twice = example_base();
  set_node(&twice, "lm_head.weight", twice.find("model.embed_tokens.weight")->node);
  std::string& config = twice.files["config.json"];
  config.replace(config.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
  auto g = to_gguf(twice);
  ASSERT_TRUE(g.ok()) << g.error().message;
  EXPECT_TRUE(evaluate(g->find("token_embd.weight")->node).ok());
  EXPECT_EQ(g->find("output.weight"), nullptr);
  auto q = quantize_gguf(*g, "Q4_K_M");
  ASSERT_TRUE(q.ok());
  EXPECT_EQ(q->find("token_embd.weight")->spec().type, DType::kQ6_K);
  Artifact a = example_base();
  drop_if(&a, [](const auto& t) { return t.name == "lm_head.weight"; });
  expect_error(to_gguf(a), {"lm_head.weight", "missing"});
  a.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", f32_tensor({16}, random_floats(16, 1))});
  std::string& c = a.files["config.json"];
  c.replace(c.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
  EXPECT_TRUE(to_gguf(a).ok());
}

// More embedding rows than tokens is padding, fewer is an error.
TEST(ToGguf, EmbeddingRowsAndTokens) {
  for (int64_t rows : {4160, 4000}) {
    Artifact a = example_base();
    for (const auto& t : a.tensors)
      if (t.spec().shape[0] == 4096) set_node(&a, t.name, typed_tensor(DType::kBF16, {rows, 256}, std::vector<float>(static_cast<size_t>(rows * 256))));
    std::string& c = a.files["config.json"];
    c.replace(c.find("4096"), 4, std::to_string(rows));
    std::string notice;
    ToGgufOptions o;
    o.on_notice = [&](const std::string& s) { notice += s; };
    auto g = to_gguf(a, o);
    if (rows == 4000) {
      expect_error(g, {"the embedding has 4000 rows", "4095"});
      continue;
    }
    ASSERT_TRUE(g.ok()) << g.error().message;
    EXPECT_NE(notice.find("64 unused tokens"), std::string::npos) << notice;
    EXPECT_EQ(std::get<std::vector<std::string>>(g->meta("tokenizer.ggml.tokens")->v).size(), 4160u);
  }
}

// Llama 3.2 1B: factors for head_dim 64, theta 500000, checked against the published formula in f64.
TEST(ToGguf, Llama3RopeFactors) {
  auto g = to_gguf(with_config("\"rope_theta\": 10000.0,\n    \"rope_type\": \"default\"",
                               "\"rope_theta\": 500000.0, \"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0,"
                               "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192"));
  ASSERT_TRUE(g.ok()) << g.error().message;
  ASSERT_EQ(g->tensors[0].name, "rope_freqs.weight");
  const auto f = values(g->tensors[0].node);
  ASSERT_EQ(f.size(), 16u);
  for (size_t i = 0; i < f.size(); ++i) {
    const double wave = 2 * M_PI * std::pow(500000.0, 2.0 * static_cast<double>(i) / 32);
    double want = 32;
    if (wave < 8192 / 4.0) want = 1;
    else if (wave <= 8192) {
      const double smooth = (8192 / wave - 1) / 3;
      want = 1 / ((1 - smooth) / 32 + smooth);
    }
    EXPECT_NEAR(f[i], want, 1e-5 * want) << i;
  }
  EXPECT_EQ(f.front(), 1);
  EXPECT_EQ(f.back(), 32);
  auto linear = to_gguf(with_config("\"rope_type\": \"default\"", "\"rope_type\": \"linear\", \"factor\": 2.0"));
  ASSERT_TRUE(linear.ok());
  EXPECT_EQ(std::get<float>(linear->meta("llama.rope.scaling.factor")->v), 2.0f);
}

TEST(ToGguf, NumbersOfTheWrongKindAreShown) {
  expect_error(to_gguf(with_config("\"rope_theta\": 10000.0", "\"rope_theta\": \"500000\"")), {"rope_theta", "\"500000\"", "number"});
  expect_error(to_gguf(with_config("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": \"yes\"")), {"tie_word_embeddings", "yes"});
  expect_error(to_gguf(with_config("\"rms_norm_eps\"", "\"rms_norm_eps\": -1, \"was\"")), {"rms_norm_eps", "-1", "above zero"});
  expect_error(to_gguf(with_config("\"rope_theta\": 10000.0,\n    \"rope_type\": \"default\"",
                                   "\"rope_type\": \"llama3\", \"factor\": \"32\"")),
               {"factor", "\"32\""});
}

// transformers 5 and llama.cpp each believe another of the two.
TEST(ToGguf, RopeScalingThatContradictsRopeParametersIsRefused) {
  const auto with = [](const std::string& scaling) {
    return to_gguf(with_config("\"rope_parameters\"", "\"rope_scaling\": " + scaling + ",\n  \"rope_parameters\""));
  };
  for (const char* agreed : {"null", "{}", R"({"type": "default"})", R"({"rope_type": "default", "rope_theta": 10000})"})
    EXPECT_TRUE(with(agreed).ok()) << agreed << ": " << with(agreed).error().message;
  for (const char* other : {R"({"type": "linear", "factor": 2.0})", R"({"rope_type": "default", "rope_theta": 5e5})"}) {
    auto g = with(other);
    ASSERT_FALSE(g.ok()) << other;
    EXPECT_EQ(g.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(g.error().message.find("contradict"), std::string::npos) << g.error().message;
  }
}

TEST(ToGguf, TitlesAndSizes) {
  // What gguf-py's Metadata.id_to_title and size_label give.
  EXPECT_EQ(title_of("tiny-llama-base"), "Tiny Llama Base");
  EXPECT_EQ(title_of("Meta-Llama-3-8B"), "Meta Llama 3 8B");
  EXPECT_EQ(title_of("mistral-7b-v0.1"), "Mistral 7b v0.1");
  EXPECT_EQ(title_of("llama2"), "Llama2");
  EXPECT_EQ(size_label(6819072), "6.8M");
  EXPECT_EQ(size_label(1100048384), "1.1B");
  EXPECT_EQ(size_label(8030261248), "8.0B");
  EXPECT_EQ(size_label(70553706496), "71B");
  EXPECT_EQ(size_label(134515008), "135M");
  EXPECT_EQ(size_label(500), "0.50K");
}

}  // namespace
}  // namespace ingot::transform
