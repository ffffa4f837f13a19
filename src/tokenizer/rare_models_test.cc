// Models, steps and files that are rare today: ids and texts are those of the tokenizers library (0.23.3) and of transformers (5.24).
#include <fmt/format.h>

#include "tokenizer/gguf_gaps.h"
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace testing;

json split_words(json model) {
  json j = char_bpe({});
  j["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  j["model"] = std::move(model);
  return j;
}
json vocab_of(const std::vector<std::string>& tokens) {
  json vocab = json::object();
  for (const auto& t : tokens) vocab[t] = vocab.size();
  return vocab;
}

// bert-base-uncased, t5-small and xlm-roberta-base were published so.
TEST(RareModels, AModelWithoutATypeIsWhatItsFieldsSay) {
  const json word = {{"vocab", vocab_of({"[UNK]", "hel", "##lo"})}, {"unk_token", "[UNK]"}, {"continuing_subword_prefix", "##"}, {"max_input_chars_per_word", 100}};
  EXPECT_EQ(encode(from_json(split_words(word)), "hello lo"), (Ids{1, 2, 0}));
  const json unigram = {{"vocab", json::array({json::array({"<unk>", 0.0}), json::array({"h", -3.0}), json::array({"hel", -1.0}), json::array({"lo", -1.5})})}, {"unk_id", 0}};
  EXPECT_EQ(encode(from_json(split_words(unigram)), "hello"), (Ids{2, 3}));
  const json whole = {{"vocab", vocab_of({"the", "cat", "<unk>"})}, {"unk_token", "<unk>"}};
  EXPECT_EQ(encode(from_json(split_words(whole)), "the cat  the dog"), (Ids{0, 1, 0, 2}));
  EXPECT_EQ(encode(from_json(split_words({{"vocab", vocab_of({"a", "b", "ab"})}, {"merges", json::array({"a b"})}})), "ab"), Ids{2});
  EXPECT_NE(load_error(split_words(json::object())).find("model.vocab: missing"), std::string::npos);
}

TEST(RareModels, AnUnknownTokenThatIsNotThereFailsWhereItIsNeeded) {
  json models[] = {{{"type", "WordLevel"}, {"vocab", vocab_of({"a"})}, {"unk_token", "?"}},
                   {{"type", "BPE"}, {"vocab", vocab_of({"a"})}, {"merges", json::array()}, {"unk_token", "?"}},
                   {{"type", "WordPiece"}, {"vocab", vocab_of({"a"})}, {"unk_token", "?"}, {"continuing_subword_prefix", ""}, {"max_input_chars_per_word", 9}}};
  for (const json& model : models) {
    const Tokenizer t = from_json(split_words(model));
    EXPECT_EQ(encode(t, "a a"), (Ids{0, 0})) << model;
    const auto failed = t.encode("a b a", false);
    ASSERT_FALSE(failed.ok()) << model;
    EXPECT_NE(failed.error().message.find("unk_token"), std::string::npos) << failed.error().message;
  }
}

TEST(RareModels, WordLevelHasNoPlaceInGguf) {
  const auto v = from_json(split_words({{"type", "WordLevel"}, {"vocab", vocab_of({"a"})}, {"unk_token", "a"}})).to_gguf_vocab();
  ASSERT_FALSE(v.ok());
  EXPECT_NE(v.error().message.find("WordLevel"), std::string::npos) << v.error().message;
}

// CLIP and GPT-1 mark the ends of words, others what goes on.
TEST(RareModels, BpeWithAffixes) {
  json end = {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}, {"unk_token", "<unk>"}, {"merges", {"a b", "a b</w>", "ab c</w>"}}};
  end["vocab"] = vocab_of({"<unk>", "a", "b", "c", "a</w>", "b</w>", "c</w>", "ab", "ab</w>", "abc</w>", "<0x64>", "<0x3C>"});
  EXPECT_EQ(encode(from_json(split_words(end)), "abc ab a dad cba"), (Ids{9, 8, 4, 0, 1, 0, 3, 2, 4}));
  EXPECT_EQ(encode(from_json(split_words(end)), "abd"), (Ids{7, 0}));
  json whole = end;
  whole["ignore_merges"] = true;
  EXPECT_EQ(encode(from_json(split_words(whole)), "ab a abc"), (Ids{7, 1, 9}));
  json on = {{"type", "BPE"}, {"continuing_subword_prefix", "##"}, {"unk_token", "<unk>"}, {"fuse_unk", true}};
  on["vocab"] = vocab_of({"<unk>", "a", "b", "c", "##a", "##b", "##c", "ab", "abc", "##bc"});
  on["merges"] = {"a ##b", "##b ##c", "ab ##c"};
  EXPECT_EQ(encode(from_json(split_words(on)), "abc ab a dad cba"), (Ids{8, 7, 1, 0, 4, 0, 3, 5, 4}));
  EXPECT_EQ(encode(from_json(split_words(on)), "abdd"), (Ids{7, 0}));
  // Of bytes.
  json clip = byte_bpe();
  int id = 256;
  for (const char* t : {"\u00C3</w>", "\u00A9</w>", "h</w>", "1</w>", "i</w>", "hi</w>"}) clip["model"]["vocab"][t] = id++;
  clip["model"]["merges"] = {"h i</w>"};
  clip["model"]["end_of_word_suffix"] = "</w>";
  clip["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "WhitespaceSplit"}}, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
  EXPECT_EQ(encode(from_json(clip), "hi \u00E9 h1"), (Ids{261, 0xC3, 257, 258, 259}));
  const auto v = from_json(clip).to_gguf_vocab();
  ASSERT_FALSE(v.ok());
  EXPECT_NE(v.error().message.find("end_of_word_suffix"), std::string::npos) << v.error().message;
  on["merges"] = {"ab c"};
  EXPECT_NE(load_error(split_words(on)).find("shorter than continuing_subword_prefix"), std::string::npos);
}

TEST(RareModels, APatternOfNothingIsBetweenAllCharacters) {
  json j = char_bpe({"<unk>", "a", "b", "c", "ab", "abc", " "});
  j["model"]["merges"] = {"a b", "ab c"};
  for (const char* behavior : {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"})
    for (const bool invert : {false, true}) {
      j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"String", ""}}}, {"behavior", behavior}, {"invert", invert}};
      const bool none = behavior == std::string("Removed") && invert;
      EXPECT_EQ(encode(from_json(j), "abc ab"), none ? Ids() : (Ids{1, 2, 3, 6, 1, 2})) << behavior << invert;
    }
  j["pre_tokenizer"] = nullptr;
  j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "b"}};
  EXPECT_EQ(encode(from_json(j), "ac"), (Ids{2, 5, 2}));
  j["decoder"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "b"}};
  EXPECT_EQ(from_json(j).decode({1, 4, 3}, false), "babbabbbbcb");
}

TEST(RareModels, ADecoderWithoutStepsPutsNoSpaces) {
  json j = char_bpe({"a", "b"});
  EXPECT_EQ(from_json(j).decode({0, 1}, false), "a b");
  j["decoder"] = {{"type", "Sequence"}, {"decoders", json::array()}};
  EXPECT_EQ(from_json(j).decode({0, 1}, false), "ab");
}

TEST(RareModels, PaddingThatCtcTakesAwayStandsBetweenNoTokens) {
  json j = char_bpe({"<pad>", "a", "b"});
  const auto ctc = [](const char* pad) { return json{{"type", "CTC"}, {"pad_token", pad}, {"word_delimiter_token", "|"}, {"cleanup", false}}; };
  j["decoder"] = ctc("<pad>");
  EXPECT_EQ(from_json(j).decode({1, 1, 0, 1, 2}, false), "aab");
  j["decoder"] = {{"type", "Sequence"}, {"decoders", {ctc("<pad>"), ctc("?")}}};
  EXPECT_EQ(from_json(j).decode({1, 1, 0, 1, 2}, false), "ab");
}

TEST(RareModels, ProcessorsInARowCloseThePartsOfATemplate) {
  json j = char_bpe({"<unk>", "a", "b", "c", "d", "abc", "e", "<s>", "</s>"});
  j["model"]["merges"] = json::array();
  const auto special = [](const char* text) { return json{{"SpecialToken", {{"id", text}, {"type_id", 0}}}}; };
  const json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, b = {{"Sequence", {{"id", "B"}, {"type_id", 0}}}}, s = special("<s>"), e = special("</s>");
  const auto pieces = [&](json single, json pair) {
    return json{{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair},
                {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {7}}, {"tokens", {"<s>"}}}}, {"</s>", {{"id", "</s>"}, {"ids", {8}}, {"tokens", {"</s>"}}}}}}};
  };
  const json bert = {{"type", "BertProcessing"}, {"sep", {"</s>", 8}}, {"cls", {"<s>", 7}}}, roberta = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 8}}, {"cls", {"<s>", 7}}};
  const json wrapped = pieces({s, a, e}, {a, b}), plain = pieces({a}, {a, e, b});
  const auto ids = [&](const json& list) {
    j["post_processor"] = {{"type", "Sequence"}, {"processors", list}};
    return encode(from_json(j), "a", true);
  };
  EXPECT_EQ(ids({wrapped, bert}), (Ids{7, 7, 8, 1, 8, 8, 8}));
  EXPECT_EQ(ids({wrapped, roberta}), (Ids{7, 7, 8, 8, 1, 8, 8, 8, 8}));
  EXPECT_EQ(ids({bert, roberta}), (Ids{7, 7, 1, 8, 8}));
  EXPECT_EQ(ids({plain, pieces({s, a}, {a, b})}), (Ids{7, 1}));
  EXPECT_EQ(ids({pieces({s, a}, {a, b}), plain}), (Ids{7, 8, 1}));
  const auto error = [&](const json& list) {
    j["post_processor"] = {{"type", "Sequence"}, {"processors", list}};
    return load_error(j);
  };
  EXPECT_NE(error({wrapped, plain}).find("3 parts"), std::string::npos);
  EXPECT_NE(error({pieces({s, a}, {a, b}), pieces({a}, {a, b, b})}).find("in 2 places"), std::string::npos);
}

TEST(RareModels, AddedTokensAreDecodedLikeOthers) {
  json j = byte_bpe();
  j["normalizer"] = {{"type", "Lowercase"}};
  j["added_tokens"] = {added(256, "<TOOL>", {{"normalized", true}}), added(257, "\u00E9a"), added(258, "\u0120foo"), added(259, "x y")};
  const Tokenizer t = from_json(j);
  EXPECT_EQ(encode(t, "<TOOL>\u0120foo"), (Ids{256, 258}));
  const char* texts[] = {"<tool>", "\uFFFDa", " foo", "x y"};
  for (int id = 256; id < 260; ++id) {
    EXPECT_EQ(t.decode({id}, false), texts[id - 256]) << id;
    Tokenizer::Stream stream(t, false);
    EXPECT_EQ(stream.next(id) + stream.finish(), texts[id - 256]) << id;
  }
  // llama.cpp shows their texts.
  const Tokenizer gguf = must(Tokenizer::from_gguf(*from_json(j).to_gguf_vocab()));
  EXPECT_EQ(gguf.decode({256, 257, 258}, false), "<TOOL>\u00E9" "a\u0120foo");
}

// Also a token that the text has only as it is normalized.
TEST(RareModels, NormalizedAddedTokensAreAGap) {
  json j = byte_bpe();
  j["normalizer"] = {{"type", "NFC"}};
  j["added_tokens"] = {added(256, "cafe\u0301", {{"normalized", true}})};
  const Tokenizer t = from_json(j);
  const auto found = find_gguf_gaps(t, *t.to_gguf_vocab());
  ASSERT_TRUE(found.ok()) << found.error().message;
  ASSERT_FALSE(found->empty());
  EXPECT_EQ((*found)[0].gap, GgufGap::kNormalizedTokens);
}

// --- vocab.json and merges.txt ---

struct SlowFiles {
  json tokenizer = byte_bpe({{"a", "b"}, {"ab", "\u0120"}});
  Files files;
  SlowFiles(const json& config, const json& model) {
    std::string merges = "#version: 0.2\n";
    for (const json& m : tokenizer["model"]["merges"]) merges += m[0].get<std::string>() + " " + m[1].get<std::string>() + "\n";
    files = {{"vocab.json", tokenizer["model"]["vocab"].dump()}, {"merges.txt", merges}, {"tokenizer_config.json", config.dump()}, {"config.json", model.dump()}};
  }
  Tokenizer open() const { return must(Tokenizer::from_hf(HfTokenizerFiles::among(files))); }
  std::string error() const {
    const auto t = Tokenizer::from_hf(HfTokenizerFiles::among(files));
    return t.ok() ? "" : t.error().message;
  }
};

SlowFiles slow(const json& config, const json& model = json::object()) { return SlowFiles(config, model); }

void expect_same_gguf(const Tokenizer& a, const Tokenizer& b) {
  const GgufVocab x = *a.to_gguf_vocab(), y = *b.to_gguf_vocab();
  EXPECT_TRUE(x.tokens == y.tokens && x.token_types == y.token_types && x.merges == y.merges && x.pre == y.pre);
  EXPECT_TRUE(x.bos == y.bos && x.eos == y.eos && x.unk == y.unk && x.pad == y.pad && x.sep == y.sep);
  EXPECT_TRUE(x.add_bos == y.add_bos && x.add_eos == y.add_eos && x.add_sep == y.add_sep && x.add_space_prefix == y.add_space_prefix);
}

TEST(VocabFiles, AreReadByTheRulesOfTheirClass) {
  const std::string text = "ab 12 e\u0301<|endoftext|>";
  const SlowFiles gpt2 = slow({{"tokenizer_class", "GPT2Tokenizer"}}), qwen = slow({{"tokenizer_class", "Qwen2TokenizerFast"}, {"bos_token", nullptr}});
  EXPECT_EQ(encode(gpt2.open(), text), (Ids{256, ' ' , '1', '2', ' ', 'e', 0xCC, 0x81, 258}));
  EXPECT_EQ(encode(qwen.open(), text), (Ids{256, ' ', '1', '2', ' ', 0xC3, 0xA9, 258}));
  // As of what transformers writes of them.
  json j = gpt2.tokenizer;
  j["added_tokens"] = {added(258, "<|endoftext|>")};
  const std::string named = R"({"bos_token":"<|endoftext|>","eos_token":"<|endoftext|>","unk_token":"<|endoftext|>"})";
  expect_same_gguf(gpt2.open(), from_files(j, {{"tokenizer_config.json", named}}));
  j["normalizer"] = {{"type", "NFC"}};
  j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}}, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  expect_same_gguf(qwen.open(), from_files(j, {{"tokenizer_config.json", R"({"eos_token":"<|endoftext|>","pad_token":"<|endoftext|>","unk_token":"<|endoftext|>"})"}}));
  EXPECT_EQ(qwen.open().to_gguf_vocab()->pre, "qwen2");
}

TEST(VocabFiles, PutTokensAroundATextWhereTheFlagsSaySo) {
  const SlowFiles files = slow({{"tokenizer_class", "GPT2Tokenizer"}, {"add_bos_token", true}, {"add_eos_token", true}, {"eos_token", "</s>"}});
  const Tokenizer t = files.open();
  EXPECT_EQ(encode(t, "a", true), (Ids{259, 'a', 258}));
  EXPECT_EQ(t.end_ids(), (Ids{258, 259}));
  EXPECT_EQ(encode(slow({{"tokenizer_class", "GPT2Tokenizer"}, {"add_bos_token", true}, {"bos_token", nullptr}}).open(), "a", true), Ids{'a'});
}

TEST(VocabFiles, WithoutAClassTheModelTypeSaysIt) {
  EXPECT_EQ(encode(slow(json::object(), {{"model_type", "starcoder2"}}).open(), "e\u0301"), (Ids{'e', 0xCC, 0x81}));
  EXPECT_EQ(encode(slow(json::object(), {{"model_type", "qwen3"}}).open(), "e\u0301"), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(encode(slow({{"tokenizer_class", "LlamaTokenizer"}}, {{"model_type", "qwen2"}}).open(), "e\u0301"), (Ids{0xC3, 0xA9}));
  for (const SlowFiles& f : {slow({{"tokenizer_class", "RobertaTokenizer"}}), slow(json::object(), {{"model_type", "llama"}})}) {
    EXPECT_NE(f.error().find("vocab.json and merges.txt"), std::string::npos) << f.error();
    EXPECT_NE(f.error().find("save_pretrained"), std::string::npos) << f.error();
  }
}

TEST(VocabFiles, NameTheirFaults) {
  const auto with = [](const char* name, const std::string& text) {
    SlowFiles f = slow({{"tokenizer_class", "GPT2Tokenizer"}});
    f.files[name] = text;
    return f.error();
  };
  EXPECT_NE(with("vocab.json", "[1]").find("vocab.json: an array found"), std::string::npos);
  EXPECT_NE(with("vocab.json", "{\"a\":").find("vocab.json"), std::string::npos);
  EXPECT_NE(with("vocab.json", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n").find("vocab.json: it is a git-lfs pointer"), std::string::npos);
  EXPECT_NE(with("merges.txt", "#version: 0.2\na b\nab\n").find("merges.txt: line 3"), std::string::npos);
  EXPECT_NE(with("merges.txt", "a \u4E2D\n").find("merges.txt: line 1: \"\u4E2D\" is not in the vocabulary"), std::string::npos);
}

TEST(VocabFiles, APointerOrAPageIsCalledSo) {
  const auto error = [](const char* name, const std::string& text) {
    const Files files = {{name, text}};
    const auto t = Tokenizer::from_hf(HfTokenizerFiles::among(files));
    return t.ok() ? "" : t.error().message;
  };
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    EXPECT_NE(error(name, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 49\n").find(std::string(name) + ": it is a git-lfs pointer"), std::string::npos);
    EXPECT_NE(error(name, "<!DOCTYPE html><html>").find("it is a web page"), std::string::npos);
  }
}

}  // namespace
}  // namespace ingot
