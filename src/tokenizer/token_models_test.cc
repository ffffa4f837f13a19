// Small tokenizers of every kind of token model (tests/data/make/token_models.py): ids and texts are those of the tokenizers library and
// of transformers, and what goes into a GGUF is what the reference converter writes.
#include <algorithm>
#include <map>

#include "tokenizer/base64.h"
#include "tokenizer/gguf_gaps.h"
#include "tokenizer/json_write.h"
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace testing;

struct Case {
  std::string name;
  std::map<std::string, std::string> files;
  json all;
};

struct Cases {
  std::vector<std::string> texts;
  std::vector<Case> list;
  Cases() {
    std::istringstream lines(slurp("tests/data/token_models.jsonl"));
    std::string line;
    std::getline(lines, line);
    texts = json::parse(line)["texts"].get<std::vector<std::string>>();
    while (std::getline(lines, line)) {
      Case c;
      c.all = json::parse(line);
      c.name = c.all["name"];
      c.files = c.all["files"].get<std::map<std::string, std::string>>();
      if (const auto it = c.files.find("tokenizer.model"); it != c.files.end()) it->second = *from_base64(it->second);
      list.push_back(std::move(c));
    }
  }
};

std::string streamed(const Tokenizer& t, const Ids& ids) {
  Tokenizer::Stream stream(t, false);
  std::string out;
  for (const int32_t id : ids) out += stream.next(id);
  return out + stream.finish();
}

TEST(TokenModels, EncodeAndDecodeAsTheLibrary) {
  const Cases cases;
  ASSERT_GE(cases.list.size(), 20u);
  for (const Case& c : cases.list) {
    SCOPED_TRACE(c.name);
    const auto t = Tokenizer::from_hf(HfTokenizerFiles::among(c.files));
    ASSERT_TRUE(t.ok()) << t.error().message;
    for (size_t i = 0; i < cases.texts.size(); ++i) {
      const Ids expected = c.all["ids"][i].get<Ids>();
      EXPECT_EQ(encode(*t, cases.texts[i]), expected) << i << ": " << cases.texts[i];
      EXPECT_EQ(t->decode(expected, false), c.all["texts"][i].get<std::string>()) << i;
      // A stream does not know that bytes which are no character are one run of them.
      const bool damaged = c.all["texts"][i].get<std::string>().find("\uFFFD") != std::string::npos;
      EXPECT_TRUE(damaged || streamed(*t, expected) == t->decode(expected, false)) << i << ": " << streamed(*t, expected);
    }
    for (size_t i = 0; i < c.all["special"].size(); ++i) EXPECT_EQ(encode(*t, cases.texts[i], true), c.all["special"][i].get<Ids>()) << i;
  }
}

TEST(TokenModels, GoIntoGgufAsTheConverterWritesThem) {
  size_t compared = 0;
  for (const Case& c : Cases().list) {
    if (!c.all.contains("converted")) continue;
    SCOPED_TRACE(c.name);
    const auto t = Tokenizer::from_hf(HfTokenizerFiles::among(c.files));
    ASSERT_TRUE(t.ok()) << t.error().message;
    const json& expected = c.all["converted"];
    const auto v = t->to_gguf_vocab(expected["tokens"].size());
    ASSERT_TRUE(v.ok()) << v.error().message;
    EXPECT_EQ(v->pre, "default");
    EXPECT_EQ(v->tokens, expected["tokens"].get<std::vector<std::string>>());
    EXPECT_EQ(v->scores, expected["scores"].get<std::vector<float>>());
    EXPECT_EQ(v->token_types, expected["types"].get<std::vector<int32_t>>());
    // The converter's are those of tokenizer_config.json, or none.
    const json config = c.files.count("tokenizer_config.json") ? json::parse(c.files.at("tokenizer_config.json")) : json::object();
    const auto said = [&](const char* key) { return config.contains(key) ? std::optional(config[key].get<bool>()) : std::nullopt; };
    EXPECT_EQ(v->add_bos, said("add_bos_token"));
    EXPECT_EQ(v->add_eos, said("add_eos_token"));
    ++compared;
  }
  EXPECT_GE(compared, 10u);
}

// Where nothing is told of, the file's ids are the directory's.
TEST(TokenModels, ComeBackFromGgufButForTheGapsThatAreTold) {
  const Cases cases;
  size_t without = 0;
  for (const Case& c : cases.list) {
    SCOPED_TRACE(c.name);
    const Tokenizer t = must(Tokenizer::from_hf(HfTokenizerFiles::among(c.files)));
    const auto v = t.to_gguf_vocab().value();
    const auto found = find_gguf_gaps(t, v), shown = find_gguf_gaps(t, v, cases.texts);
    ASSERT_TRUE(found.ok() && shown.ok());
    std::string told;
    for (const GgufFinding& f : *found) told += f.describe() + "\n";
    for (const GgufFinding& f : *shown)
      EXPECT_TRUE(std::any_of(found->begin(), found->end(), [&](const GgufFinding& g) { return g.gap == f.gap; })) << f.describe() << told;
    const Tokenizer file = must(Tokenizer::from_gguf(v));
    if (!found->empty()) continue;
    ++without;
    for (const std::string& text : cases.texts) EXPECT_EQ(encode(file, text, true), encode(t, text, true)) << text;
  }
  EXPECT_GE(without, 3u);
}

// A directory's tokenizer that goes through a GGUF file and is one again: the ids are its own where GGUF lost nothing, else those of one of the two.
TEST(TokenModels, ComeBackFromGgufAsTokenizerJson) {
  const Cases cases;
  size_t exact = 0;
  for (const Case& c : cases.list) {
    SCOPED_TRACE(c.name);
    const Tokenizer t = must(Tokenizer::from_hf(HfTokenizerFiles::among(c.files)));
    const auto v = t.to_gguf_vocab().value();
    const auto made = hf_tokenizer_of(v);
    ASSERT_TRUE(made.ok()) << made.error().message;
    const Tokenizer back = must(Tokenizer::from_hf(HfTokenizerFiles::among(made->files))), file = must(Tokenizer::from_gguf(v));
    const auto gaps = find_gguf_gaps(t, v, cases.texts);
    ASSERT_TRUE(gaps.ok());
    exact += gaps->empty();
    // GGUF has lost its NFKC, not its bytes, which llama.cpp does not use: neither tokenizer.
    if (c.name == "json: Unigram with bytes") continue;
    for (const std::string& text : cases.texts) {
      const Ids ids = encode(back, text, true), own = encode(t, text, true);
      // Where no file says whether BOS is added, llama.cpp does and transformers does not.
      Ids begun = own;
      if (v.bos) begun.insert(begun.begin(), static_cast<int32_t>(*v.bos));
      EXPECT_TRUE(ids == own || (!gaps->empty() && (ids == encode(file, text, true) || ids == begun)))
          << text << "\n" << json(ids) << "\n" << json(own) << "\n" << json(encode(file, text, true));
    }
  }
  EXPECT_GE(exact, 3u);
}

}  // namespace
}  // namespace ingot
