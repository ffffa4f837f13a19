// Hostile tokenizer files and vocabularies: one clear error each, and no hang.
#include <cmath>

#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

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
  has(load_error(std::string(R"({"model":{"type":"WordLevel","vocab":{}}})")), "no tokens");
  has(load_error(std::string(R"({"model":{"type":"CharLevel","vocab":{}}})")), "CharLevel");
  has(load_error(std::string(R"({"model":{"type":"Unigram","vocab":[]}})")), "no tokens");
  has(load_error(std::string(R"({"model":{"type":"Unigram","vocab":{"a":0}}})")), "an object found");
  has(load_error(std::string(R"({"model":{"type":"Unigram","vocab":[["a"]]}})")), "vocab[0]");
  has(load_error(std::string(R"({"model":{"type":"Unigram","vocab":[["a",0]]}})")), "unk_id: missing");
  has(load_error(std::string(R"({"model":{"type":"Unigram","unk_id":null,"vocab":[["a",0]]}})")), "unk_id: missing");
  has(load_error(std::string(R"({"model":{"type":"Unigram","unk_id":1,"vocab":[["a",0]]}})")), "unk_id: 1 found");
  has(load_error(std::string(R"({"model":{"type":"WordPiece","vocab":{"a":0},"unk_token":"a","continuing_subword_prefix":"##"}})")), "max_input_chars");
  has(load_error(std::string(
          R"({"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"Unigram","unk_id":0,"vocab":[["a",0]]}})")), "behind a ByteLevel");
  has(load_error(std::string(R"({"model":7})")), "7 found");
  has(load_error(std::string(R"({"model":7,"model":{}})")), "model.vocab: missing");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[],"dropout":0.1}})")), "dropout");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[],"ignore_merges":"yes"}})")),
      "ignore_merges");
  has(load_error(std::string(R"({"model":{"vocab":{"\ud800":0},"merges":[]}})")), "half of a surrogate pair");
  has(load_error(std::string("{\"model\":{\"vocab\":{\"\xFF\":0},\"merges\":[]}}")), "not valid JSON");
  has(load_error("{\"model\":" + std::string(100000, '[')), "nested deeper");
  has(load_error(std::string(R"({"model":{"vocab":{"a":0},"merges":[]})")), "not valid JSON");

  const json good = byte_bpe();
  json j = good;
  j["model"]["vocab"]["abc"] = 300;  // and none from 256 on: the next id counts the tokens
  for (int i = 0; i < 45; ++i) j["added_tokens"].push_back(added(400, fmt::format("x{}", i)));
  has(load_error(j), "\"x43\" would get the next free id, 300");
  j = good;
  j["added_tokens"] = json::array({added(300, std::string(5000, 'x'))});
  has(load_error(j), "too long");
  j["added_tokens"] = json::array({json{{"id", 300}}});
  has(load_error(j), "content: missing");
  j["added_tokens"] = json::array({7});
  has(load_error(j), "added_tokens[0]");
  j["added_tokens"] = "x";
  has(load_error(j), "expected an array");

  j = good;
  j["normalizer"] = {{"type", "Upside"}};
  has(load_error(j), "Upside");
  j["normalizer"] = {{"type", "Precompiled"}};
  has(load_error(j), "precompiled_charsmap: missing");
  j["normalizer"]["precompiled_charsmap"] = "a b";
  has(load_error(j), "not base64");
  j["normalizer"]["precompiled_charsmap"] = "//////8=";
  has(load_error(j), "an array of 4294967295 follows");
  j = good;
  j["pre_tokenizer"] = {{"type", "Upside"}};
  has(load_error(j), "Upside");
  j["pre_tokenizer"] = {{"type", "Metaspace"}};
  has(load_error(j), "replacement: missing");
  j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
  has(load_error(j), "expected one character");
  j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}};
  has(load_error(j), "expected always, first or never");
  j["pre_tokenizer"] = {{"type", "FixedLength"}, {"length", 0}};
  has(load_error(j), "FixedLength");
  j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
  has(load_error(j), "malformed");
  j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Sideways"}};
  has(load_error(j), "Sideways");
  json nested = {{"type", "ByteLevel"}};
  for (int i = 0; i < 40; ++i) nested = {{"type", "Sequence"}, {"pretokenizers", json::array({nested})}};
  j["pre_tokenizer"] = nested;
  has(load_error(j), "nest deeper");
  j = good;
  j["decoder"] = {{"type", "Upside"}};
  has(load_error(j), "Upside");
  j["decoder"] = {{"type", "CTC"}};
  has(load_error(j), "pad_token: missing");
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
  v.model = "rwkv";
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
  v = good, v.model = "llama", v.scores = {1};
  EXPECT_NE(error(v).find("1 entries"), std::string::npos);
  v.scores.assign(v.tokens.size(), 0.0f), v.scores[7] = std::nanf("");
  EXPECT_NE(error(v).find("scores[7]"), std::string::npos);
  v.scores[7] = 0, v.tokens[9] = std::string(2000, 'a');
  EXPECT_NE(error(v).find("2000 bytes"), std::string::npos);
  v = good, v.model = "t5", v.charsmap = "\x08";
  EXPECT_NE(error(v).find("precompiled_charsmap"), std::string::npos);
}

}  // namespace
}  // namespace ingot
