// A GGUF names a token for each role that has one, and none that has no row; what llama.cpp could not load is refused.
#include <algorithm>

#include "tokenizer/gguf_gaps.h"
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;
json with_tokens(const std::vector<std::string>& tokens) {
  json j = byte_bpe();
  for (size_t i = 0; i < tokens.size(); ++i) j["added_tokens"].push_back(added(static_cast<int>(256 + i), tokens[i]));
  return j;
}
GgufVocab written(const Tokenizer& t, size_t rows = 0) {
  auto v = t.to_gguf_vocab(rows);
  EXPECT_TRUE(v.ok()) << (v.ok() ? "" : v.error().message);
  return v.ok() ? *v : GgufVocab();
}
size_t told(const std::vector<std::string>& warnings, const std::string& part) {
  return static_cast<size_t>(std::count_if(warnings.begin(), warnings.end(), [&](const auto& w) { return w.find(part) != w.npos; }));
}

TEST(GgufRoles, ATokenWithoutARowLeavesItsRoleToTheNextThatHasOne) {
  json j = with_tokens({"<e>"});
  j["post_processor"] = {{"type", "TemplateProcessing"},
                         {"single", {{{"SpecialToken", {{"id", "<e>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                         {"special_tokens", {{"<e>", {{"id", "<e>"}, {"ids", {256}}, {"tokens", {"<e>"}}}}}}};
  const Files config = {{"tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "<unk>"})"},
                        {"config.json", R"({"eos_token_id": 7, "pad_token_id": 5})"}};
  const Tokenizer t = from_files(j, config);
  const GgufVocab v = written(t, 257);
  EXPECT_EQ(v.bos, 256);  // what stands before every text
  EXPECT_EQ(v.add_bos, true);
  EXPECT_EQ(v.eos, 7);
  EXPECT_EQ(v.add_eos, false);
  EXPECT_EQ(v.pad, 5);
  EXPECT_FALSE(v.unk);
  EXPECT_EQ(told(v.warnings, "eos_token is \"</s>\" (258), which has no row: 7 takes its place"), 1u);
  EXPECT_EQ(told(v.warnings, "unk_token"), 0u);  // it is among those that are left out
  EXPECT_EQ(told(v.warnings, "none for \"<s>\" (257), \"</s>\" (258), \"<unk>\" (259), \"[PAD]\" (260): left out"), 1u);
  const auto found = find_gguf_gaps(t, v);
  ASSERT_TRUE(found.ok());
  for (const GgufFinding& f : *found) EXPECT_NE(f.gap, GgufGap::kTokensBefore) << f.what;
  EXPECT_EQ(told(written(from_files(byte_bpe(), {{"config.json", R"({"pad_token_id": 300})"}}), 256).warnings,
                 "pad_token is 300, which has no row: it is left out"), 1u);
  // With rows for all each has its own.
  const GgufVocab all = written(t);
  EXPECT_EQ(all.bos, 257);
  EXPECT_EQ(all.eos, 258);
  EXPECT_TRUE(all.warnings.empty());
}

TEST(GgufRoles, AnEosWithoutARowAndWithoutConfigJsonIsOneOfTheOthersThatEndAText) {
  const std::string eos = R"({"eos_token": "<new>"})";
  const Files list = {{"tokenizer_config.json", eos}, {"generation_config.json", R"({"eos_token_id": [999, 256]})"}};
  EXPECT_EQ(written(from_files(with_tokens({"<e>"}), list), 257).eos, 256);
  EXPECT_EQ(written(from_files(with_tokens({"<x>", "<|im_end|>"}), {{"tokenizer_config.json", eos}}), 258).eos, 257);
  const GgufVocab none = written(from_files(with_tokens({"<x>"}), {{"tokenizer_config.json", eos}}), 257);
  EXPECT_FALSE(none.eos);
  EXPECT_EQ(told(none.warnings, "llama.cpp will stop at the token 11"), 1u);
}

TEST(GgufRoles, WhereNoFileNamesAnEosOneThatEndsATextByItsTextIsWritten) {
  EXPECT_EQ(written(from_files(with_tokens({"<x>", "<|im_end|>"}))).eos, 257);
  const GgufVocab none = written(from_files(with_tokens({"<x>"})));
  EXPECT_FALSE(none.eos);
  EXPECT_EQ(told(none.warnings, "no file names the token that ends a text"), 1u);
  // Which llama.cpp then takes for one.
  EXPECT_EQ(must(Tokenizer::from_gguf(none)).end_ids(), (Ids{11}));
  GgufVocab few = none;
  few.tokens.resize(11), few.token_types.resize(11);
  EXPECT_EQ(must(Tokenizer::from_gguf(few)).end_ids(), Ids{});
}

TEST(GgufRoles, TheDefaultsOfAClassCountWhereNothingElseNamesTheTokens) {
  const auto roles = [](const std::string& config, Files more = {}, json tokenizer = byte_bpe()) {
    more["config.json"] = config;
    const GgufVocab v = written(from_files(tokenizer, more));
    return std::pair(v.bos.value_or(-1), v.eos.value_or(-1));
  };
  using Ids = std::pair<int32_t, int32_t>;
  EXPECT_EQ(roles(R"({"model_type": "llama"})"), (Ids{1, 2}));
  EXPECT_EQ(roles(R"({"model_type": "mistral"})"), (Ids{1, 2}));
  EXPECT_EQ(roles(R"({"model_type": "gemma"})"), (Ids{2, 1}));
  EXPECT_EQ(roles(R"({"model_type": "phi3"})"), (Ids{1, -1}));  // there is no 32000
  EXPECT_EQ(roles(R"({"model_type": "qwen2"})"), (Ids{-1, -1}));
  EXPECT_EQ(roles(R"({"model_type": "llama", "eos_token_id": null})"), (Ids{1, -1}));
  EXPECT_EQ(roles(R"({"model_type": "llama", "bos_token_id": 9, "eos_token_id": 8})"), (Ids{9, 8}));
  EXPECT_EQ(roles(R"({"model_type": "llama"})", {{"generation_config.json", "{}"}}), (Ids{-1, -1}));
  EXPECT_EQ(roles(R"({"model_type": "llama"})", {{"tokenizer_config.json", R"({"eos_token": "<e>"})"}}), (Ids{1, 256}));
  EXPECT_EQ(roles(R"({"model_type": "llama"})", {}, with_tokens({"<|im_end|>"})), (Ids{1, 256}));
  const Tokenizer t = from_files(byte_bpe(), {{"config.json", R"({"model_type": "llama"})"}});
  EXPECT_EQ(t.end_ids(), testing::Ids{2});
  EXPECT_EQ(told(t.warnings(), "it is 2, which transformers takes"), 1u);
}

// llama.cpp takes the one that its hash table lists first.
TEST(GgufRoles, OfSeveralTextsForOneFimTokenOneIsNamed) {
  const GgufVocab v = written(from_files(with_tokens({"[PAD]", "<reponame>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<e>"}),
                                         {{"tokenizer_config.json", R"({"eos_token": "<e>"})"}}));
  EXPECT_EQ(v.fim_pad, 258);
  EXPECT_EQ(v.fim_rep, 260);
  EXPECT_FALSE(v.fim_sep);
  EXPECT_EQ(must(Tokenizer::from_gguf(v)).end_ids(), (Ids{261, 258, 260, 259}));
  // A text is then no reason to take a token for a control token.
  GgufVocab plain = v;
  std::fill(plain.token_types.begin(), plain.token_types.end(), static_cast<int32_t>(TokenType::kNormal));
  EXPECT_EQ(encode(must(Tokenizer::from_gguf(plain)), "[PAD]").size(), 5u);
  EXPECT_FALSE(written(from_files(with_tokens({"[PAD]"}))).fim_pad);
}

TEST(GgufRoles, TextsThatLlamaCppCannotLoadAreRefused) {
  const auto error = [](const Tokenizer& t, size_t rows) {
    const auto v = t.to_gguf_vocab(rows);
    return v.ok() ? "" : v.error().message;
  };
  EXPECT_NE(error(from_json(with_tokens({std::string("a\0b", 3)})), 0).find("the token 256"), std::string::npos);
  EXPECT_EQ(error(from_json(with_tokens({"[PAD300]"})), 290), "");
  EXPECT_NE(error(from_json(with_tokens({"[PAD300]"})), 301).find("the tokens 256 and 300 would both be"), std::string::npos);
}

TEST(GgufRoles, AddedTokensWithoutARowAreLeftOutByName) {
  const Tokenizer t = from_files(with_tokens({"<e>", "[PAD]"}), {{"tokenizer_config.json",
                                                                  R"({"eos_token": "<e>", "pad_token": "[PAD]", "extra_special_tokens": ["<x>"]})"}});
  const GgufVocab v = written(t, 257);
  EXPECT_EQ(v.tokens.size(), 257u);
  EXPECT_FALSE(v.pad);
  EXPECT_EQ(told(v.warnings, "the embedding of 257 rows has none for \"[PAD]\" (257), \"<x>\" (258): left out"), 1u);
  EXPECT_TRUE(written(t, 259).warnings.empty());
  // The vocabulary's own pieces, and what stands around every text, cannot be done without.
  const auto few = t.to_gguf_vocab(200);
  ASSERT_FALSE(few.ok());
  EXPECT_NE(few.error().message.find("ids up to 255"), std::string::npos) << few.error().message;
  json j = with_tokens({"<e>", "</e>"});
  j["post_processor"] = {{"type", "BertProcessing"}, {"cls", {"<e>", 256}}, {"sep", {"</e>", 257}}};
  const auto around = from_json(j).to_gguf_vocab(257);
  ASSERT_FALSE(around.ok());
  EXPECT_NE(around.error().message.find("puts the token \"</e>\" (257) around every text"), std::string::npos) << around.error().message;
}

// No text that is made for all tokenizers shows these: pieces of the vocabulary do.
TEST(GgufGaps, RulesThatTheOverridingNameDoesNotHaveShowInThePiecesOfTheVocabulary) {
  const auto gaps = [](const json& j, const char* name) {
    Tokenizer t = from_json(j);
    EXPECT_TRUE(t.override_pre_tokenizer(name).ok());
    const auto found = find_gguf_gaps(t, *t.to_gguf_vocab());
    EXPECT_TRUE(found.ok());
    return *found;
  };
  const json j = byte_bpe({{"q", "Z"}});
  const auto found = gaps(j, "gpt-4o");  // which cuts before upper case
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].gap, GgufGap::kPreTokenizer);
  EXPECT_EQ(found[0].text, "qZ");
  EXPECT_EQ(found[0].ours, (Ids{256}));
  EXPECT_TRUE(gaps(j, "gpt-2").empty());
  // Rules of no known name.
  json own = byte_bpe({{"1", "2"}});
  own["pre_tokenizer"] = {{"type", "Sequence"},
                          {"pretokenizers", {{{"type", "Split"}, {"pattern", {{"Regex", "12|[^12]+"}}}, {"behavior", "Isolated"}, {"invert", false}},
                                             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  EXPECT_FALSE(from_json(own).pre_tokenizer_name().ok());
  EXPECT_FALSE(gaps(own, "smollm").empty());
}

}  // namespace
}  // namespace ingot
