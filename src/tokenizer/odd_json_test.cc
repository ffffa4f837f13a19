// The tokenizer's files are read as Python reads them: what nobody reads blocks nothing, what is read and no machine's type
// holds is refused by name.
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

// transformers writes model_max_length 10^30 where it knows no limit; nobody reads it here.
TEST(Tokenizer, WhatNobodyReadsCannotBlockAFile) {
  const TinyLlama tiny;
  const Tokenizer plain = must(Tokenizer::from_hf(tiny.files()));
  const GgufVocab expected = *plain.to_gguf_vocab();
  const std::string bom = "\xEF\xBB\xBF";
  for (const char* odd : {"1000000000000000019884624838656", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "\"\\ud800\"",
                          "{\"a\":[NaN]}", "1,\"unread\":2,\"unread\":NaN"}) {
    TinyLlama t;
    for (std::string* text : {&t.tokenizer, &t.tokenizer_config, &t.config})
      *text = bom + "{\"unread\":" + odd + ",\"\\udead\":1," + text->substr(text->find('{') + 1);
    const Tokenizer read = must(Tokenizer::from_hf(t.files()));
    const GgufVocab v = *read.to_gguf_vocab();
    EXPECT_TRUE(v.tokens == expected.tokens && v.token_types == expected.token_types && v.merges == expected.merges) << odd;
    EXPECT_TRUE(v.eos == expected.eos && v.bos == expected.bos && v.pad == expected.pad) << odd;
    EXPECT_EQ(encode(read, "def main(x): return 10 ** 30"), encode(plain, "def main(x): return 10 ** 30")) << odd;
  }
}

TEST(Tokenizer, OfARepeatedKeyTheLastValueCounts) {
  const std::string text = R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3,"bc":4},"merges":["a b","b c"]},"decoder":{"type":"Fuse"}})";
  const auto first_in = [&](const std::string& place, const std::string& what) {
    std::string t = text;
    const auto at = t.find(place);
    EXPECT_NE(at, std::string::npos) << place;
    return t.insert(at + place.size(), what);
  };
  const Tokenizer plain = must(Tokenizer::from_hf({text, {}, {}, {}}));
  // A whole model, a token of the vocabulary (its first id is another's), and the type of a rule.
  for (const auto& [place, what] : {std::pair<std::string, std::string>{"{", "\"model\":{\"vocab\":7},"},
                                    {"\"vocab\":{", "\"ab\":1,\"bc\":3,"},
                                    {"\"decoder\":{", "\"type\":\"Unknown\","}}) {
    auto t = Tokenizer::from_hf({first_in(place, what), {}, {}, {}});
    ASSERT_TRUE(t.ok()) << what << ": " << t.error().message;
    EXPECT_EQ(t->size(), plain.size()) << what;
    EXPECT_EQ(encode(*t, "abcab"), encode(plain, "abcab")) << what;
  }
  // Two tokens of one id stay an error, repeated ones beside them or not.
  EXPECT_NE(load_error(first_in("\"vocab\":{", "\"ab\":9,\"xx\":4,")).find("same id 4"), std::string::npos);
}

TEST(Tokenizer, AnOddValueIsRefusedWhereItIsReadWithItsFieldAndItself) {
  struct Case {
    std::string TinyLlama::*file;
    const char *from, *to;
    std::vector<const char*> parts;
  };
  const Case cases[] = {
      {&TinyLlama::config, "\"pad_token_id\": 5", "\"pad_token_id\": 1e999", {"config.json", "pad_token_id", "1e999"}},
      {&TinyLlama::config, "\"eos_token_id\": 1", "\"eos_token_id\": NaN", {"config.json", "eos_token_id", "NaN"}},
      {&TinyLlama::config, "\"eos_token_id\": 1", "\"eos_token_id\": 100000000000000000000", {"eos_token_id", "100000000000000000000"}},
      {&TinyLlama::config, "\"eos_token_id\": 1", "\"eos_token_id\": 1.5", {"eos_token_id", "1.5"}},
      {&TinyLlama::tokenizer_config, "\"<|end_of_text|>\"", "Infinity", {"tokenizer_config.json", "eos_token", "Infinity"}},
      {&TinyLlama::tokenizer_config, "\"<|end_of_text|>\"", "\"<\\udc00>\"", {"tokenizer_config.json", "eos_token", "<\\udc00>"}},
      {&TinyLlama::tokenizer_config, "\"<|end_of_text|>\"", "{\"content\": NaN}", {"eos_token.content", "NaN"}},
      {&TinyLlama::tokenizer_config, "\"is_local\"", "\"chat_template\": NaN, \"is_local\"", {"chat_template", "NaN"}},
      {&TinyLlama::tokenizer_config, "\"is_local\"", "\"add_prefix_space\": NaN, \"is_local\"", {"add_prefix_space", "NaN"}},
      {&TinyLlama::tokenizer, "\"vocab\": {", "\"vocab\": {\"odd\": NaN, ", {"tokenizer.json", "model.vocab[\"odd\"]", "NaN"}},
      {&TinyLlama::tokenizer, "\"vocab\": {", "\"vocab\": {\"odd\": 1e30, ", {"model.vocab[\"odd\"]", "1e+30"}},
      {&TinyLlama::tokenizer, "\"vocab\": {", "\"vocab\": NaN, \"x\": {", {"model.vocab", "NaN"}},
      {&TinyLlama::tokenizer, "\"vocab\": {", "\"vocab\": {\"\\ud800\": 4, ", {"model.vocab", "half of a surrogate pair"}},
      {&TinyLlama::tokenizer, "\"type\": \"BPE\"", "\"type\": NaN", {"tokenizer.json", "type", "NaN"}},
  };
  for (const Case& c : cases) {
    TinyLlama t;
    std::string& text = t.*c.file;
    const auto at = text.find(c.from);
    ASSERT_NE(at, std::string::npos) << c.from;
    text.replace(at, std::string(c.from).size(), c.to);
    auto r = Tokenizer::from_hf(t.files());
    ASSERT_FALSE(r.ok()) << c.to;
    EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
    for (const char* part : c.parts) EXPECT_NE(r.error().message.find(part), std::string::npos) << c.to << ": " << r.error().message;
    EXPECT_EQ(r.error().message.find("no strict JSON"), std::string::npos) << r.error().message;
  }
}

}  // namespace
}  // namespace ingot
