// The tokenizer as a whole: the bundled model's, against the recorded encodings and metadata.
#include "tokenizer/tokenizer_testing.h"

#include <atomic>
#include <thread>

namespace ingot {
namespace {

using namespace ingot::testing;

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
  EXPECT_FALSE(v->unk || v->sep || v->mask || v->eot || v->eom);
  // The reference leaves these out where the files are silent.
  EXPECT_EQ(v->add_eos, false);
  EXPECT_EQ(v->add_space_prefix, false);
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
  EXPECT_NE(fewer.error().message.find("the embedding has 4095 rows"), std::string::npos);
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

TEST(Tokenizer, KnowsItsTokens) {
  const TinyLlama tiny;
  const Tokenizer t = must(Tokenizer::from_hf(tiny.files()));
  EXPECT_EQ(t.size(), 4096u);
  EXPECT_EQ(t.token_piece(4), "<|eot_id|>");
  EXPECT_EQ(t.bos(), 0);
  EXPECT_EQ(t.end_ids(), (Ids{1, 4}));  // llama.cpp knows <|eot_id|>
  const Ids ids = encode(t, " the");
  ASSERT_EQ(ids.size(), 1u);
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

}  // namespace
}  // namespace ingot
