// The tokenizer as a whole: the bundled model's against the recorded encodings, tokenizer.json's features,
// hostile files.
#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tokenizer/unicode.h"

namespace ingot {
namespace {

using Ids = std::vector<int32_t>;
using nlohmann::json;

std::string slurp(const std::string& path) {
  std::ifstream f(std::string(INGOT_SOURCE_DIR "/") + path, std::ios::binary);
  EXPECT_TRUE(f) << path;
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

// The texts of the bundled model; the views of files() point into this.
struct TinyLlama {
  std::string tokenizer = slurp("examples/tiny-llama-base/tokenizer.json");
  std::string tokenizer_config = slurp("examples/tiny-llama-base/tokenizer_config.json");
  std::string config = slurp("examples/tiny-llama-base/config.json");
  std::string chat_template = slurp("examples/tiny-llama-base/chat_template.jinja");
  HfTokenizerFiles files() const { return {tokenizer, tokenizer_config, config, chat_template}; }
};

Tokenizer must(Result<Tokenizer> r) {
  EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().message);
  if (!r.ok()) std::exit(1);
  return std::move(r).value();
}

Tokenizer from_json(const json& j) { return must(Tokenizer::from_hf({j.dump(), {}, {}, {}})); }
std::string load_error(const std::string& text) {
  auto r = Tokenizer::from_hf({text, {}, {}, {}});
  return r.ok() ? "" : r.error().message;
}
std::string load_error(const json& j) { return load_error(j.dump()); }

Ids encode(const Tokenizer& t, std::string_view text, bool add_special = false, bool parse_special = true) {
  auto ids = t.encode(text, add_special, parse_special);
  EXPECT_TRUE(ids.ok()) << (ids.ok() ? "" : ids.error().message);
  return ids.ok() ? *ids : Ids{};
}

// A byte-level BPE over all bytes (ids 0 to 255) and what `merges` make.
json byte_bpe(const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  json vocab = json::object(), list = json::array();
  int id = 0;
  for (int b = 0; b < 256; ++b) {
    std::string s;
    unicode::append_utf8(s, unicode::byte_to_char(static_cast<uint8_t>(b)));
    vocab[s] = id++;
  }
  for (const auto& [a, b] : merges) {
    list.push_back({a, b});
    if (!vocab.contains(a + b)) vocab[a + b] = id++;
  }
  return {{"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}
json added(int id, const std::string& content, json flags = json::object()) {
  json t = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
            {"rstrip", false}, {"normalized", false}, {"special", true}};
  t.update(flags);
  return t;
}
json char_bpe(const std::vector<std::string>& tokens) {
  json j = byte_bpe();
  json vocab = json::object();
  int id = 0;
  for (const auto& t : tokens) vocab[t] = id++;
  j["model"]["vocab"] = vocab;
  j["pre_tokenizer"] = nullptr;
  j["decoder"] = nullptr;
  return j;
}

TEST(Tokenizer, EqualsTheRecordedEncodingsFromHfAndFromGguf) {
  const TinyLlama tiny;
  const Tokenizer hf = must(Tokenizer::from_hf(tiny.files()));
  auto vocab = hf.to_gguf_vocab();
  ASSERT_TRUE(vocab.ok()) << vocab.error().message;
  const Tokenizer gguf = must(Tokenizer::from_gguf(*vocab));
  const json cases = json::parse(slurp("tests/data/vocabs/tiny-llama.encodings.json"));
  ASSERT_GT(cases.size(), 5u);
  for (const Tokenizer* t : {&hf, &gguf}) {
    for (const auto& c : cases) {
      const auto text = c["text"].get<std::string>();
      EXPECT_EQ(encode(*t, text, true), c["ids"].get<Ids>()) << text;
      EXPECT_EQ(encode(*t, text, false), c["ids_no_special"].get<Ids>()) << text;
      EXPECT_EQ(t->decode(c["ids_no_special"].get<Ids>(), false), c["decoded"].get<std::string>());
    }
  }
}

TEST(Tokenizer, WritesTheMetadataOfTheReferenceConverter) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  const auto v = t.to_gguf_vocab(4096);
  ASSERT_TRUE(v.ok()) << v.error().message;
  const json expected = json::parse(slurp("tests/data/vocabs/tiny-llama.gguf-metadata.json"))["metadata"];
  EXPECT_EQ(v->model, expected["tokenizer.ggml.model"].get<std::string>());
  EXPECT_EQ(v->pre, expected["tokenizer.ggml.pre"].get<std::string>());
  const auto same_list = [&](const char* key, const auto& list) {
    const json& e = expected[key];
    ASSERT_EQ(list.size(), e["count"].get<size_t>()) << key;
    for (size_t i = 0; i < e["first"].size(); ++i) EXPECT_EQ(json(list[i]), e["first"][i]) << key;
    for (size_t i = 0; i < e["last"].size(); ++i)
      EXPECT_EQ(json(list[list.size() - e["last"].size() + i]), e["last"][i]) << key;
  };
  same_list("tokenizer.ggml.tokens", v->tokens);
  same_list("tokenizer.ggml.token_type", v->token_types);
  same_list("tokenizer.ggml.merges", v->merges);
  EXPECT_EQ(v->bos, expected["tokenizer.ggml.bos_token_id"].get<int>());
  EXPECT_EQ(v->eos, expected["tokenizer.ggml.eos_token_id"].get<int>());
  EXPECT_EQ(v->pad, expected["tokenizer.ggml.padding_token_id"].get<int>());
  EXPECT_EQ(v->add_bos, expected["tokenizer.ggml.add_bos_token"].get<bool>());
  EXPECT_EQ(v->add_sep, expected["tokenizer.ggml.add_sep_token"].get<bool>());
  EXPECT_EQ(v->chat_template, expected["tokenizer.chat_template"].get<std::string>());
  EXPECT_FALSE(v->add_eos || v->unk || v->sep || v->mask || v->eot || v->eom || v->add_space_prefix);
}

TEST(Tokenizer, PadsToTheEmbeddingRowsAndRefusesFewer) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  const auto v = t.to_gguf_vocab(4100);
  ASSERT_TRUE(v.ok());
  ASSERT_EQ(v->tokens.size(), 4100u);
  EXPECT_EQ(v->tokens[4099], "[PAD4099]");
  EXPECT_EQ(v->token_types[4099], static_cast<int>(TokenType::kUnused));
  EXPECT_TRUE(Tokenizer::from_gguf(*v).ok());
  const auto fewer = t.to_gguf_vocab(4095);
  ASSERT_FALSE(fewer.ok());
  EXPECT_NE(fewer.error().message.find("4095 embedding rows"), std::string::npos);
}

TEST(Tokenizer, StreamsWholeCharactersOnly) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  const std::string text = "na\u00EFve \u4E2D\u6587 \U0001F600\U0001F468\u200D\U0001F469 end";
  const Ids ids = encode(t, text, true);
  Tokenizer::Stream stream(t, true);
  std::string all;
  for (const int32_t id : ids) {
    const std::string part = stream.next(id);
    EXPECT_TRUE(unicode::is_valid_utf8(part));
    all += part;
  }
  all += stream.finish();
  EXPECT_EQ(all, text);
  EXPECT_EQ(t.decode(ids, true), text);
  EXPECT_EQ(t.decode(ids, false), "<|begin_of_text|>" + text);
  // An unfinished character at the end.
  const Ids smile = encode(t, "\U0001F600");
  ASSERT_GT(smile.size(), 1u);
  Tokenizer::Stream cut(t, true);
  EXPECT_EQ(cut.next(smile[0]), "");
  EXPECT_EQ(cut.finish(), "\uFFFD");
  EXPECT_EQ(t.decode({smile[0], -1, 1 << 30}, true), "\uFFFD");
}

TEST(Tokenizer, LooksUpTokens) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  EXPECT_EQ(t.size(), 4096u);
  EXPECT_EQ(t.id_of("<|eot_id|>"), 4);
  EXPECT_EQ(t.id_of("no such token"), -1);
  EXPECT_EQ(t.token_text(4), "<|eot_id|>");
  EXPECT_TRUE(t.is_special(4));
  EXPECT_EQ(t.bos(), 0);
  EXPECT_EQ(t.end_ids(), (Ids{1}));
  const Ids ids = encode(t, " the");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_EQ(t.token_text(ids[0]), "\u0120the");
  EXPECT_EQ(t.token_piece(ids[0]), " the");
  EXPECT_EQ(t.token_piece(99999), "");
}

TEST(Tokenizer, ReplacesInvalidUtf8) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  EXPECT_EQ(encode(t, "a\xFF\xE4\xB8z"), encode(t, "a\uFFFD\uFFFDz"));
  EXPECT_EQ(encode(t, std::string_view("a\0b", 3)).size(), 3u);
  EXPECT_EQ(encode(t, ""), Ids{});
}

TEST(Tokenizer, ManyThreadsEncodeWithOne) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  const std::string text = slurp("src/tokenizer/tokenizer_test.cc");
  const Ids expected = encode(t, text);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 3; ++k) {
        const auto ids = t.encode(text, false);
        if (!ids.ok() || *ids != expected) ++wrong;
      }
    });
  }
  for (auto& th : threads) th.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Tokenizer, MergesByRankThenPosition) {
  const Tokenizer t = from_json(byte_bpe({{"a", "a"}, {"b", "c"}, {"a", "b"}, {"aa", "a"}}));
  const auto id = [&](const char* s) { return t.id_of(s); };
  EXPECT_EQ(encode(t, "aaa"), (Ids{id("aaa")}));
  EXPECT_EQ(encode(t, "aaaa"), (Ids{id("aa"), id("aa")}));
  EXPECT_EQ(encode(t, "abc"), (Ids{id("a"), id("bc")}));
  EXPECT_EQ(encode(t, "ab"), (Ids{id("ab")}));
  // Long pieces go another way and must give the same.
  const std::string as(1001, 'a');
  const Ids ids = encode(t, as);
  ASSERT_EQ(ids.size(), 500u);
  EXPECT_EQ(ids[0], id("aa"));
  EXPECT_EQ(ids.back(), id("aaa"));
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
      json::array({added(300, "<a>"), added(301, "<a><b>"), added(302, "<l>", {{"lstrip", true}}),
                   added(303, "<r>", {{"rstrip", true}}),
                   added(304, "word", {{"single_word", true}, {"special", false}})});
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "x<a><b>y"), (Ids{encode(t, "x")[0], 301, encode(t, "y")[0]}));  // the longest
  EXPECT_EQ(encode(t, "<a><a>"), (Ids{300, 300}));
  EXPECT_EQ(encode(t, "x \t<l> y"), encode(t, "x<l> y"));
  EXPECT_EQ(encode(t, "x<r>\n\u3000y"), encode(t, "x<r>y"));
  EXPECT_EQ(encode(t, "word").front(), 304);
  EXPECT_EQ(encode(t, "a word.")[2], 304);
  EXPECT_EQ(encode(t, "swords").size(), 6u);
  EXPECT_EQ(encode(t, "word\u00E9").size(), 6u);
  EXPECT_EQ(encode(t, "<a>", false, false).size(), 3u);    // control tokens as plain text
  EXPECT_EQ(encode(t, "word", false, false), (Ids{304}));  // not a control token
  EXPECT_EQ(t.decode({300, 304}, true), "word");
}

// Tokens of white space that also strip it: what an earlier one took is not given again (but without lstrip
// it is, as in the library).
TEST(Tokenizer, StrippingTokensOfWhiteSpace) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(300, "  ", {{"lstrip", true}, {"rstrip", true}})});
  EXPECT_EQ(encode(from_json(j), "a      b").size(), 3u);
  j["added_tokens"] = json::array({added(300, "  ", {{"rstrip", true}})});
  EXPECT_EQ(encode(from_json(j), "a      b").size(), 5u);
}

TEST(Tokenizer, NormalizedAddedTokensAreSoughtInNormalizedText) {
  json j = byte_bpe();
  j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
  j["added_tokens"] =
      json::array({added(300, "Day", {{"normalized", true}, {"special", false}}), added(301, "[DAY]")});
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "DAY[DAY]day"), (Ids{300, 301, 300}));
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
  EXPECT_FALSE(t.to_gguf_vocab().ok());
}

TEST(Tokenizer, PostProcessors) {
  json j = byte_bpe();
  j["added_tokens"] = json::array({added(300, "<s>"), added(301, "</s>")});
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
                             {{"<s>", {{"id", "<s>"}, {"ids", {300}}, {"tokens", {"<s>"}}}},
                              {"</s>", {{"id", "</s>"}, {"ids", {301}}, {"tokens", {"</s>"}}}}}}}}}};
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "a", true), (Ids{300, encode(t, "a")[0], 301}));
  EXPECT_EQ(encode(t, "", true), (Ids{300, 301}));
  const auto v = t.to_gguf_vocab();
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v->add_bos, true);
  EXPECT_EQ(v->add_eos, true);
  j["post_processor"] = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 301}}, {"cls", {"<s>", 300}}};
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

TEST(Tokenizer, HostileFilesGiveOneClearError) {
  const auto has = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << "message: " << message << "\nexpected: " << part;
  };
  has(load_error(std::string("")), "not valid JSON");
  has(load_error(std::string("[]")), "expected an object");
  has(load_error(std::string("{}")), "model: missing");
  has(load_error(std::string(R"({"model":{}})")), "model.vocab: missing");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0}}})")), "model.merges: missing");
  has(load_error(std::string(R"({"model":{"vocab":{},"merges":[]}})")), "no tokens");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0,"b":1,"a":1},"merges":[]}})")), "same id 1");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0,"b":0},"merges":[]}})")), "same id 0");
  has(load_error(std::string(R"({"model":{"vocab":{"a":-1},"merges":[]}})")), "out of range");
  has(load_error(std::string(R"({"model":{"vocab":{"a":2147483648},"merges":[]}})")), "out of range");
  has(load_error(std::string(R"({"model":{"vocab":{"a":2147483647},"merges":[]}})")), "far beyond");
  has(load_error(std::string(R"({"model":{"vocab":{"a":1.5},"merges":[]}})")), "1.5 found");
  has(load_error(std::string(R"({"model":{"vocab":{"a":"0"},"merges":[]}})")), "a string found");
  has(load_error(std::string(R"({"model":{"vocab":["a"],"merges":[]}})")), "an array found");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":{}}})")), "an object found");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":["a"]}})")), "merges[0]");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":["a b"]}})")),
      "\"b\" is not in the vocabulary");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0,"b":1},"merges":["a b"]}})")), "makes \"ab\"");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[["a"]]}})")), "merges[0]");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[7]}})")), "merges[0]");
  has(load_error(std::string(R"({"model":{"type":"Unigram","vocab":[]}})")), "Unigram");
  has(load_error(std::string(R"({"model":7})")), "7 found");
  has(load_error(std::string(R"({"model":7,"model":{}})")), "model.vocab: missing");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[],"dropout":0.1}})")), "dropout");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}})")),
      "end_of_word_suffix");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[],"unk_token":"<unk>"}})")), "<unk>");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[],"ignore_merges":"yes"}})")),
      "ignore_merges");
  has(load_error(std::string(R"({"model":{"vocab":{"\ud800":0},"merges":[]}})")), "half of a surrogate pair");
  has(load_error(std::string("{\"model\":{\"vocab\":{\"\xFF\":0},\"merges\":[]}}")), "not valid JSON");
  has(load_error("{\"model\":" + std::string(100000, '[')), "nested deeper");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[]})")), "not valid JSON");

  const json good = byte_bpe();
  json j = good;
  j["added_tokens"] = json::array({added(0, "zzz")});
  has(load_error(j), "has the id 0");
  j["added_tokens"] = json::array({added(300, "a")});
  has(load_error(j), "300 here");
  j["added_tokens"] = json::array({added(300, "x1"), added(300, "x2")});
  has(load_error(j), "same id 300");
  j["added_tokens"] = json::array({added(300, "x1"), added(301, "x1")});
  has(load_error(j), "listed twice");
  j["added_tokens"] = json::array({added(2000000000, "x1")});
  has(load_error(j), "far beyond");
  j["added_tokens"] = json::array({added(300, std::string(5000, 'x'))});
  has(load_error(j), "too long");
  j["added_tokens"] = json::array({json{{"id", 300}}});
  has(load_error(j), "content: missing");
  j["added_tokens"] = json::array({7});
  has(load_error(j), "added_tokens[0]");
  j["added_tokens"] = "x";
  has(load_error(j), "expected an array");

  j = good;
  j["normalizer"] = {{"type", "Precompiled"}};
  has(load_error(j), "Precompiled");
  j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}};
  has(load_error(j), "empty pattern");
  j = good;
  j["pre_tokenizer"] = {{"type", "Metaspace"}};
  has(load_error(j), "Metaspace");
  j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
  has(load_error(j), "malformed");
  j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Sideways"}};
  has(load_error(j), "Sideways");
  json nested = {{"type", "ByteLevel"}};
  for (int i = 0; i < 40; ++i) nested = {{"type", "Sequence"}, {"pretokenizers", json::array({nested})}};
  j["pre_tokenizer"] = nested;
  has(load_error(j), "nest deeper");
  j = good;
  j["decoder"] = {{"type", "CTC"}};
  has(load_error(j), "CTC");
  j = good;
  j["post_processor"] = {{"type", "TemplateProcessing"}, {"single", json::array()}};
  has(load_error(j), "sequence A is missing");
  j["post_processor"] = {{"type", "TemplateProcessing"},
                         {"single", json::array({json{{"SpecialToken", {{"id", "<s>"}}}}})}};
  has(load_error(j), "not in special_tokens");
  j["post_processor"] = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 9999}}, {"cls", {"<s>", 0}}};
  has(load_error(j), "no token");
}

TEST(Tokenizer, HugeStringsAreRefusedOrTaken) {
  json j = byte_bpe();
  j["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", std::string(4 << 20, 'a')}}}, {"behavior", "Isolated"}};
  EXPECT_NE(load_error(j).find("at most"), std::string::npos);
  EXPECT_LT(load_error(j).size(), 500u);
  j = byte_bpe();
  j["model"]["vocab"][std::string(4 << 20, 'a')] = 256;
  EXPECT_NE(load_error(j).find("bytes; at most"), std::string::npos);
  // A text that is one long piece.
  const Tokenizer t = from_json(byte_bpe({{"a", "a"}, {"aa", "aa"}}));
  EXPECT_EQ(encode(t, std::string(1 << 20, 'a')).size(), size_t{1} << 18);
  EXPECT_EQ(encode(t, std::string(1 << 18, ' ')).size(), size_t{1} << 18);
}

TEST(Tokenizer, ASlowPatternOfTheFileFailsInsteadOfHanging) {
  json j = byte_bpe();
  j["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "(a*)*[bd]"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"use_regex", false}}}}};
  const auto ids = from_json(j).encode(std::string(5000, 'a'), false);
  ASSERT_FALSE(ids.ok());
  EXPECT_NE(ids.error().message.find("(a*)*[bd]"), std::string::npos);
}

TEST(Tokenizer, BadGgufVocabularies) {
  const TinyLlama tiny;
  const GgufVocab good = *must(Tokenizer::from_hf(tiny.files())).to_gguf_vocab();
  const auto error = [](const GgufVocab& v) {
    auto r = Tokenizer::from_gguf(v);
    return r.ok() ? std::string() : r.error().message;
  };
  EXPECT_EQ(error(good), "");
  GgufVocab v = good;
  v.model = "llama";
  EXPECT_NE(error(v).find("tokenizer.ggml.model"), std::string::npos);
  v = good, v.pre = "odd";
  EXPECT_NE(error(v).find("\"odd\""), std::string::npos);
  v = good, v.tokens.clear();
  EXPECT_NE(error(v).find("no tokens"), std::string::npos);
  v = good, v.token_types.pop_back();
  EXPECT_NE(error(v).find("4095 entries"), std::string::npos);
  v = good, v.tokens[9] = v.tokens[8];
  EXPECT_NE(error(v).find("two ids, 8 and 9"), std::string::npos);
  v = good, v.tokens[4000] = "\xFF";
  EXPECT_NE(error(v).find("not UTF-8"), std::string::npos);
  v = good, v.merges[3] = "x";
  EXPECT_NE(error(v).find("merges[3]"), std::string::npos);
  v = good, v.merges[3] = "";
  EXPECT_NE(error(v).find("merges[3]"), std::string::npos);
  v = good, v.merges[3] = "zzzzzzz q";
  EXPECT_NE(error(v).find("not in the vocabulary"), std::string::npos);
  v = good, v.bos = 4096;
  EXPECT_NE(error(v).find("bos_token_id: 4096"), std::string::npos);
}

}  // namespace
}  // namespace ingot
