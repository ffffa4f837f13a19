// What llama.cpp does with the tokenizer of a GGUF file, and what is told of it when a directory is written.
#include "tokenizer/gguf_gaps.h"
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace testing;

GgufVocab written(const json& file) {
  auto v = from_json(file).to_gguf_vocab();
  EXPECT_TRUE(v.ok()) << (v.ok() ? "" : v.error().message);
  return v.ok() ? *v : GgufVocab();
}
Tokenizer read(const GgufVocab& v) { return must(Tokenizer::from_gguf(v)); }

std::vector<GgufFinding> gaps(const json& file) {
  auto found = find_gguf_gaps(from_json(file), written(file));
  EXPECT_TRUE(found.ok()) << (found.ok() ? "" : found.error().message);
  return found.ok() ? *found : std::vector<GgufFinding>();
}

TEST(Gguf, TheLongestAddedTokenIsTakenWhereverItIs) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(256, "ab"), added(257, "bcd"), added(258, "cde", {{"special", false}})});
  const Tokenizer t = read(written(j));
  const Ids a = encode(t, "a"), e = encode(t, "e");
  EXPECT_EQ(encode(from_json(j), "abcde"), (Ids{256, 258}));
  EXPECT_EQ(encode(t, "abcde"), (Ids{a[0], 257, e[0]}));  // of equal length the first id
  EXPECT_EQ(encode(t, "abcdeab"), (Ids{a[0], 257, e[0], 256}));
  EXPECT_EQ(encode(t, "abcde", false, false).back(), 258);  // control tokens are plain text then
  const auto found = gaps(j);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].gap, GgufGap::kTokenOrder);
}

TEST(Gguf, TokensAreWhatTheirTextsSay) {
  json j = byte_bpe();
  j["model"]["vocab"]["</s>"] = 256;
  j["model"]["vocab"]["<|channel|>"] = 257;
  GgufVocab v = written(j);
  EXPECT_EQ(encode(from_json(j), "a</s>").size(), 5u);
  EXPECT_EQ(encode(read(v), "a</s>").back(), 256);
  EXPECT_EQ(encode(read(v), "</s>", false, false).size(), 4u);
  EXPECT_EQ(encode(read(v), "<|channel|>", false, false), (Ids{257}));  // user-defined
  v.tokens.push_back("<|tool_response>");
  v.token_types.push_back(static_cast<int32_t>(TokenType::kControl));
  EXPECT_EQ(encode(read(v), "</s>").size(), 4u);
}

TEST(Gguf, SomeModelsTokensTakeWhiteSpace) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(256, "<x>"), added(257, "<s>"), added(258, "<mask>")});
  GgufVocab v = written(j);
  const Ids a = encode(read(v), "a"), space = encode(read(v), " ");
  EXPECT_EQ(encode(read(v), "<x> \n a<s> "), (Ids{256, encode(read(v), " \n")[0], encode(read(v), "\n")[0], space[0], a[0], 257, space[0]}));
  v.name = "My Phi-3 Mini";
  EXPECT_EQ(encode(read(v), "<x> \n a<s> "), (Ids{256, a[0], 257, space[0]}));
  v.name = "", v.pre = "jina-v2-code";
  EXPECT_EQ(encode(read(v), "<x> <mask> "), (Ids{256, 258, space[0]}));
}

TEST(Gguf, BosIsGpt2sWhereTheFileNamesNone) {
  GgufVocab v = written(byte_bpe());
  const Ids a = encode(read(v), "a");
  EXPECT_EQ(encode(read(v), "a", true), a);
  v.pre = "llama-bpe", v.add_bos = v.add_eos = std::nullopt;  // puts BOS by its name
  EXPECT_EQ(encode(read(v), "a", true), (Ids{11, a[0]}));
  v.bos = 20, v.add_eos = true;
  EXPECT_EQ(encode(read(v), "a", true), (Ids{20, a[0], 11}));
  v.add_bos = false, v.add_eos = false;
  EXPECT_EQ(encode(read(v), "a", true), a);
  v.pre = "chatglm-bpe", v.bos = std::nullopt, v.add_bos = true;  // which has none
  EXPECT_EQ(encode(read(v), "a", true), a);
}

TEST(Gguf, OfAMergeListedTwiceTheOneThatCountsIsWritten) {
  json j = byte_bpe({{"a", "b"}, {"b", "c"}, {"a", "b"}});
  const GgufVocab v = written(j);
  EXPECT_EQ(v.merges, (std::vector<std::string>{"b c", "a b"}));
  EXPECT_EQ(encode(read(v), "abc"), encode(from_json(j), "abc"));
  GgufVocab twice = v;
  twice.merges = {"a b", "b c", "a b"};  // llama.cpp goes by the first
  EXPECT_EQ(encode(read(twice), "abc")[0], encode(read(v), "ab")[0]);
}

TEST(Gguf, MergesThatNoBytesMakeAreLeftOut) {
  json j = byte_bpe({{"a", "b"}});
  j["model"]["vocab"]["x y"] = 300;
  j["model"]["vocab"]["x yz"] = 301;
  j["model"]["merges"].push_back({"x y", "z"});
  const GgufVocab v = written(j);
  EXPECT_EQ(v.merges, (std::vector<std::string>{"a b"}));
  EXPECT_EQ(encode(read(v), "x yz"), encode(from_json(j), "x yz"));
}

TEST(Gguf, OneTokenAroundATextIsSaid) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(256, "<s>"), added(257, "</s>")});
  j["post_processor"] = {{"type", "BertProcessing"}, {"cls", {"<s>", 256}}, {"sep", {"</s>", 257}}};
  const GgufVocab v = written(j);
  EXPECT_EQ(v.bos, 256);
  EXPECT_EQ(v.add_bos, true);
  EXPECT_EQ(v.eos, 257);
  EXPECT_EQ(v.add_eos, true);
  EXPECT_TRUE(gaps(j).empty());
}

TEST(GgufGaps, NameTheReasonAndTheShortestExample) {
  json j = byte_bpe();
  j["normalizer"] = {{"type", "NFC"}};
  const auto found = gaps(j);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].gap, GgufGap::kNormalizer);
  EXPECT_EQ(found[0].text, "e\u0301");
  EXPECT_EQ(found[0].ours, encode(from_json(j), "\u00E9"));
  EXPECT_EQ(found[0].theirs, encode(from_json(byte_bpe()), "e\u0301"));
  EXPECT_EQ(found[0].describe(), "GGUF cannot say that text is normalized (NFC): llama.cpp takes it as it is; \"e\u0301\" is [" +
                                     std::to_string(found[0].ours[0]) + ", " + std::to_string(found[0].ours[1]) + "] here and [" +
                                     std::to_string(found[0].theirs[0]) + ", " + std::to_string(found[0].theirs[1]) + ", " +
                                     std::to_string(found[0].theirs[2]) + "] there");
  EXPECT_TRUE(gaps(byte_bpe()).empty());
}

TEST(GgufGaps, ATokenLeftOutForWantOfARowIsNone) {
  const json j = byte_bpe();
  const Tokenizer t = must(Tokenizer::from_hf(HfTokenizerFiles::among({{"tokenizer.json", j.dump()}, {"added_tokens.json", R"({"<more>": 256})"}})));
  EXPECT_EQ(encode(t, "<more>"), (Ids{256}));
  const auto v = t.to_gguf_vocab(256);
  ASSERT_TRUE(v.ok());
  const auto found = find_gguf_gaps(t, *v);
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->empty()) << found->at(0).describe();
  // What is a gap besides stays one.
  json marked = j;
  marked["added_tokens"] = json::array({added(256, "<end>", {{"lstrip", true}})});
  const Tokenizer two = must(Tokenizer::from_hf(HfTokenizerFiles::among({{"tokenizer.json", marked.dump()}, {"added_tokens.json", R"({"<more>": 257})"}})));
  const auto gaps = find_gguf_gaps(two, *two.to_gguf_vocab(257));
  ASSERT_TRUE(gaps.ok());
  ASSERT_EQ(gaps->size(), 1u);
  EXPECT_EQ((*gaps)[0].gap, GgufGap::kSpaceAtTokens);
}

// The directory takes whole words under a name without ignore_merges: only --pre-tokenizer writes that.
TEST(GgufGaps, IgnoreMergesThatTheNameDoesNotSay) {
  json j = byte_bpe({{"a", "b"}});
  j["model"]["ignore_merges"] = true;
  j["model"]["vocab"]["abc"] = 300;
  Tokenizer t = from_json(j);
  ASSERT_TRUE(t.override_pre_tokenizer("gpt-2").ok());
  const auto found = find_gguf_gaps(t, *t.to_gguf_vocab());
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].gap, GgufGap::kIgnoreMerges);
  EXPECT_EQ((*found)[0].text, "abc");
  EXPECT_EQ((*found)[0].ours, (Ids{300}));
}

}  // namespace
}  // namespace ingot
