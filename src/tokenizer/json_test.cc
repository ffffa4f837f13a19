// What tokenizer.json can say: merges, added tokens, normalizers, decoders, post-processors, and the name its rules get in GGUF.
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

TEST(Tokenizer, MergesByRankThenPosition) {
  const Tokenizer t = from_json(byte_bpe({{"a", "a"}, {"b", "c"}, {"a", "b"}, {"aa", "a"}}));
  const int32_t a = 'a', aa = 256, bc = 257, ab = 258, aaa = 259;
  EXPECT_EQ(encode(t, "aaa"), (Ids{aaa}));
  EXPECT_EQ(encode(t, "aaaa"), (Ids{aa, aa}));
  EXPECT_EQ(encode(t, "abc"), (Ids{a, bc}));
  EXPECT_EQ(encode(t, "ab"), (Ids{ab}));
  // Long pieces go another way and must give the same.
  const std::string as(1001, 'a');
  const Ids ids = encode(t, as);
  ASSERT_EQ(ids.size(), 500u);
  EXPECT_EQ(ids[0], aa);
  EXPECT_EQ(ids.back(), aaa);
  std::string mixed;
  for (int i = 0; i < 300; ++i) mixed += "abcab"[i * 7 % 5];
  std::string back = t.decode(encode(t, mixed), true);
  EXPECT_EQ(back, mixed);
}

TEST(Tokenizer, IgnoreMergesTakesWholePieces) {
  json j = byte_bpe({{"a", "b"}});
  j["model"]["vocab"]["abc"] = 500;  // no merges make it
  EXPECT_EQ(encode(from_json(j), "abc").size(), 2u);
  j["model"]["ignore_merges"] = true;
  EXPECT_EQ(encode(from_json(j), "abc"), (Ids{500}));
  EXPECT_EQ(encode(from_json(j), "abcd").size(), 3u);
}

TEST(Tokenizer, AddedTokensAndTheirFlags) {
  json j = byte_bpe();
  j["added_tokens"] =
      json::array({added(256, "<a>"), added(257, "<a><b>"), added(258, "<l>", {{"lstrip", true}}),
                   added(259, "<r>", {{"rstrip", true}}),
                   added(260, "word", {{"single_word", true}, {"special", false}})});
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "x<a><b>y"), (Ids{encode(t, "x")[0], 257, encode(t, "y")[0]}));  // the longest
  EXPECT_EQ(encode(t, "<a><a>"), (Ids{256, 256}));
  EXPECT_EQ(encode(t, "x \t<l> y"), encode(t, "x<l> y"));
  EXPECT_EQ(encode(t, "x<r>\n\u3000y"), encode(t, "x<r>y"));
  EXPECT_EQ(encode(t, "word").front(), 260);
  EXPECT_EQ(encode(t, "a word.")[2], 260);
  EXPECT_EQ(encode(t, "swords").size(), 6u);
  EXPECT_EQ(encode(t, "word\u00E9").size(), 6u);
  EXPECT_EQ(encode(t, "<a>", false, false).size(), 3u);    // control tokens as plain text
  EXPECT_EQ(encode(t, "word", false, false), (Ids{260}));  // not a control token
  EXPECT_EQ(t.decode({256, 260}, true), "word");
}

// Tokens of white space that also strip it: what an earlier one took is not given again (but without lstrip
// it is, as in the library).
TEST(Tokenizer, StrippingTokensOfWhiteSpace) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(256, "  ", {{"lstrip", true}, {"rstrip", true}})});
  EXPECT_EQ(encode(from_json(j), "a      b").size(), 3u);
  j["added_tokens"] = json::array({added(256, "  ", {{"rstrip", true}})});
  EXPECT_EQ(encode(from_json(j), "a      b").size(), 5u);
}

TEST(Tokenizer, NormalizedAddedTokensAreSoughtInNormalizedText) {
  json j = byte_bpe();
  j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
  j["added_tokens"] =
      json::array({added(256, "Day", {{"normalized", true}, {"special", false}}), added(257, "[DAY]")});
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "DAY[DAY]day"), (Ids{256, 257, 256}));
  EXPECT_EQ(encode(t, "A"), encode(t, "a"));
  EXPECT_EQ(encode(t, "e\u0301").size(), 2u);
  j["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}};
  EXPECT_EQ(encode(from_json(j), " a "), encode(from_json(byte_bpe()), "a "));
  // A Strip of neither side once emptied texts of white space alone.
  j["normalizer"]["strip_left"] = false;
  EXPECT_EQ(encode(from_json(j), "  ").size(), 2u);
}

TEST(Tokenizer, CharacterLevelBpeUnknownsAndByteFallback) {
  json j = char_bpe({"<unk>", "a", "b", "ab", "<0xC3>", "<0xA9>", "\u2581"});
  j["model"]["merges"] = json::array({"a b"});
  j["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(encode(from_json(j), "abxyb"), (Ids{3, 0, 0, 2}));
  j["model"]["fuse_unk"] = true;
  EXPECT_EQ(encode(from_json(j), "abxyb"), (Ids{3, 0, 2}));
  j["model"]["byte_fallback"] = true;
  EXPECT_EQ(encode(from_json(j), "a\u00E9x"), (Ids{1, 4, 5, 0}));
  j["model"].erase("unk_token");
  EXPECT_EQ(encode(from_json(j), "axb"), (Ids{3}));  // as the library: dropped
  // Llama 2's steps.
  j["normalizer"] = {{"type", "Sequence"},
                     {"normalizers",
                      {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                       {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
  j["decoder"] = {{"type", "Sequence"},
                  {"decoders",
                   {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                    {{"type", "ByteFallback"}},
                    {{"type", "Fuse"}},
                    {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  const Tokenizer t = from_json(j);
  const Ids ids = encode(t, "ab b\u00E9");
  EXPECT_EQ(ids, (Ids{6, 3, 6, 2, 4, 5}));
  EXPECT_EQ(t.decode(ids, true), "ab b\u00E9");
  Tokenizer::Stream s(t, true);
  std::string out;
  for (const int32_t id : ids) out += s.next(id);
  EXPECT_EQ(out + s.finish(), "ab b\u00E9");
  const auto written = t.to_gguf_vocab();
  ASSERT_TRUE(written.ok()) << written.error().message;
  EXPECT_EQ(written->model, "llama");
  EXPECT_EQ(encode(must(Tokenizer::from_gguf(*written)), "ab b\u00E9"), ids);
  // GGUF has no place for other rules.
  j["pre_tokenizer"] = {{"type", "Digits"}, {"individual_digits", true}};
  Tokenizer other = from_json(j);
  const auto refused = other.to_gguf_vocab();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("Digits(individual_digits=true)"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("--pre-tokenizer default"), std::string::npos) << refused.error().message;
  ASSERT_TRUE(other.override_pre_tokenizer("default").ok());
  EXPECT_TRUE(other.to_gguf_vocab().ok());
}

TEST(Tokenizer, PostProcessors) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(256, "<s>"), added(257, "</s>")});
  j["post_processor"] = {{"type", "Sequence"},
                         {"processors",
                          {{{"type", "ByteLevel"}},
                           {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                              {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}}}},
                            {"pair", json::array()},
                            {"special_tokens",
                             {{"<s>", {{"id", "<s>"}, {"ids", {256}}, {"tokens", {"<s>"}}}},
                              {"</s>", {{"id", "</s>"}, {"ids", {257}}, {"tokens", {"</s>"}}}}}}}}}};
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "a", true), (Ids{256, encode(t, "a")[0], 257}));
  EXPECT_EQ(encode(t, "", true), (Ids{256, 257}));
  const auto v = t.to_gguf_vocab();
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v->add_bos, true);
  EXPECT_EQ(v->add_eos, true);
  j["post_processor"] = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 257}}, {"cls", {"<s>", 256}}};
  EXPECT_EQ(encode(from_json(j), "a", true).size(), 3u);
}

TEST(Tokenizer, UnknownRulesAreNamedAndOverridden) {
  json j = byte_bpe();
  j["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"},
         {"pattern",
          {{"Regex", "my+odd|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,4}| ?[^\\s\\p{L}\\p{N}]+|tail"}}},
         {"behavior", "Isolated"},
         {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  Tokenizer t = from_json(j);
  const auto name = t.pre_tokenizer_name();
  ASSERT_FALSE(name.ok());
  EXPECT_NE(name.error().message.find("|tail\""), std::string::npos);
  EXPECT_NE(name.error().message.find("--pre-tokenizer"), std::string::npos);
  EXPECT_FALSE(t.to_gguf_vocab().ok());
  const Status bad = t.override_pre_tokenizer("nonsense");
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().kind, ErrorKind::kUsage);
  EXPECT_NE(bad.error().message.find("llama-bpe"), std::string::npos);
  ASSERT_TRUE(t.override_pre_tokenizer("qwen2").ok());
  EXPECT_EQ(t.to_gguf_vocab()->pre, "qwen2");
}

// llama.cpp takes whole tokens under the name llama-bpe; without ignore_merges the name must not say so.
TEST(Tokenizer, NameAgreesWithIgnoreMerges) {
  json j = byte_bpe({{"a", "b"}});
  j["pre_tokenizer"] = json::parse(slurp("examples/tiny-llama-base/tokenizer.json"))["pre_tokenizer"];
  EXPECT_EQ(*from_json(j).pre_tokenizer_name(), "dbrx");
  j["model"]["ignore_merges"] = true;
  EXPECT_EQ(*from_json(j).pre_tokenizer_name(), "llama-bpe");
  // No name of GPT-2's rules has ignore_merges: harmless while merges make every token, else refused.
  j = byte_bpe({{"a", "b"}});
  j["model"]["ignore_merges"] = true;
  EXPECT_EQ(*from_json(j).pre_tokenizer_name(), "gpt-2");
  j["model"]["vocab"]["abc"] = 300;
  const auto name = from_json(j).pre_tokenizer_name();
  ASSERT_FALSE(name.ok());
  EXPECT_NE(name.error().message.find("ignore_merges"), std::string::npos);
}

TEST(Tokenizer, TypesOfAddedTokensInGguf) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(256, "<s>"), added(257, "<|tool|>", {{"special", false}}),
                                   added(258, "a\u2581b", {{"special", false}})});
  const auto v = from_json(j).to_gguf_vocab();
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v->token_types[256], 3);
  EXPECT_EQ(v->token_types[257], 3);  // looks special, as the converter judges
  EXPECT_EQ(v->token_types[258], 4);
  EXPECT_EQ(v->tokens[258], "a b");
}

}  // namespace
}  // namespace ingot
