// 300 random variations of a byte-level BPE tokenizer (tests/data/vocabs/make_variations.py): the ids of the directory are those
// of the tokenizers library, and those of the GGUF file are the same but for gaps that are found and told.
#include <algorithm>
#include <map>
#include <set>

#include "tokenizer/gguf_gaps.h"
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace testing;

struct Variation {
  json file, config, texts, ids, special;
};

std::vector<Variation> variations() {
  std::istringstream lines(slurp("tests/data/vocabs/variations.jsonl"));
  std::string line;
  std::getline(lines, line);
  const json base = json::parse(line);
  std::vector<Variation> all;
  while (std::getline(lines, line)) {
    const json v = json::parse(line);
    all.push_back({base, v["config"], v["texts"], v["ids"], v["special"]});
    Variation& made = all.back();
    made.file.merge_patch(v["patch"]);
    // A special token that tokenizer.json does not list would be added (tokenizer_files_test.cc); the library was not told of it.
    for (auto it = made.config.begin(); it != made.config.end();) {
      const json& added = made.file["added_tokens"];
      const bool listed = !it->is_string() || std::any_of(added.begin(), added.end(), [&](const json& t) { return t["content"] == *it; });
      if (listed) ++it;
      else it = made.config.erase(it);
    }
  }
  return all;
}

bool any(const json& list, const char* flag) {
  return std::any_of(list.begin(), list.end(), [&](const json& t) { return t.value(flag, false); });
}

// What may differ by what the variation has.
std::set<GgufGap> expected_gaps(const json& file, const Ids& before, const Ids& after, const GgufVocab& written) {
  std::set<GgufGap> gaps;
  const auto may = [&](GgufGap gap, bool has) {
    if (has) gaps.insert(gap);
  };
  const json& added = file["added_tokens"];
  const json& model = file["model"];
  may(GgufGap::kNormalizedTokens, any(added, "normalized"));
  const json normalizer = file.value("normalizer", json());
  may(GgufGap::kNormalizer, normalizer.is_object() && normalizer.value("normalizers", json(1)).size() > 0);
  may(GgufGap::kSpaceAtTokens, any(added, "lstrip") || any(added, "rstrip"));
  may(GgufGap::kSingleWord, any(added, "single_word"));
  may(GgufGap::kTokenOrder, added.size() > 1);
  bool by_spelling = model["vocab"].contains("</s>") || model["vocab"].contains("<|im_end|>");
  for (const json& t : added) by_spelling = by_spelling || t["content"].get<std::string>().find("\u2581") != std::string::npos;
  may(GgufGap::kTokenTexts, by_spelling);
  may(GgufGap::kSpacePrefix, file["pre_tokenizer"].dump().find("\"add_prefix_space\":true") != std::string::npos);
  const std::set<std::string> other_rules = {"gpt-4o", "llama4", "tekken", "tiny_aya", "youtu", "kimi-k2", "falcon", "deepseek-llm"};
  may(GgufGap::kPreTokenizer, other_rules.count(written.pre) > 0 || file["pre_tokenizer"].dump().find("Removed") != std::string::npos);
  const std::set<std::string> ignoring = {"llama-bpe", "tekken", "youtu", "minicpm5"};
  may(GgufGap::kIgnoreMerges, model.value("ignore_merges", false) != (ignoring.count(written.pre) > 0));
  bool unknown = model.value("byte_fallback", false) || model["unk_token"].is_string();
  const json bytes = byte_bpe()["model"]["vocab"];
  for (const auto& [text, id] : bytes.items()) unknown = unknown || !model["vocab"].contains(text);
  may(GgufGap::kUnknownBytes, unknown);
  may(GgufGap::kTokensBefore, before.size() > 1 || (before.empty() ? written.add_bos.value_or(false) : before[0] != written.bos));
  may(GgufGap::kTokensAfter, after.size() > 1 || (after.empty() ? written.add_eos.value_or(false) : after[0] != written.eos));
  return gaps;
}

// The only reasons for which a variation may be refused, and those for which it may not be written.
constexpr const char* kRefusals[] = {"the normalizer leaves nothing of the added token"};
constexpr const char* kUnwritable[] = {"the pre-tokenizer is none that llama.cpp knows", "which changes how some words are cut"};

template <size_t n>
::testing::AssertionResult is_one_of(const std::string& message, const char* const (&reasons)[n]) {
  for (const char* reason : reasons)
    if (message.find(reason) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << message;
}

TEST(TokenizerVariations, AreTheLibrarysAndGgufsGapsAreTold) {
  const std::vector<Variation> all = variations();
  ASSERT_EQ(all.size(), 300u);
  std::map<GgufGap, int> told;
  int refused = 0, unwritable = 0, without_gaps = 0;
  for (size_t n = 0; n < all.size(); ++n) {
    const Variation& v = all[n];
    SCOPED_TRACE("variations.jsonl, line " + std::to_string(n + 2));
    const auto directory = Tokenizer::from_hf({v.file.dump(), v.config.dump(), {}, {}});
    if (!directory.ok()) {
      EXPECT_TRUE(is_one_of(directory.error().message, kRefusals));
      ++refused;
      continue;
    }
    const auto texts = v.texts.get<std::vector<std::string>>();
    for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(encode(*directory, texts[i]), v.ids[i].get<Ids>()) << texts[i];
    EXPECT_EQ(encode(*directory, texts[0], true), v.special.get<Ids>()) << texts[0];

    const auto written = directory->to_gguf_vocab();
    if (!written.ok()) {
      EXPECT_TRUE(is_one_of(written.error().message, kUnwritable));
      ++unwritable;
      continue;
    }
    const auto found = find_gguf_gaps(*directory, *written), shown = find_gguf_gaps(*directory, *written, texts);
    ASSERT_TRUE(found.ok() && shown.ok());
    const Ids around = encode(*directory, "Hello", true), inner = encode(*directory, "Hello");
    const auto at = std::search(around.begin(), around.end(), inner.begin(), inner.end());
    const auto expected = expected_gaps(v.file, Ids(around.begin(), at), Ids(at + static_cast<std::ptrdiff_t>(inner.size()), around.end()),
                                        *written);
    std::set<GgufGap> gaps;
    for (const GgufFinding& f : *found) {
      EXPECT_TRUE(expected.count(f.gap)) << f.describe() << "\n" << v.file["added_tokens"];
      EXPECT_TRUE(gaps.insert(f.gap).second) << "twice: " << f.describe();
      EXPECT_NE(f.ours, f.theirs) << f.describe();
      ++told[f.gap];
    }
    without_gaps += gaps.empty();
    // What the texts show is found by the probes too, and where nothing is found the file's ids are the directory's.
    for (const GgufFinding& f : *shown) EXPECT_TRUE(gaps.count(f.gap)) << "the probes miss: " << f.describe();
    const Tokenizer file = must(Tokenizer::from_gguf(*written));
    if (gaps.empty()) {
      for (const std::string& text : texts) EXPECT_EQ(encode(file, text, true), encode(*directory, text, true)) << text;
    }
    for (const std::string& text : texts) EXPECT_TRUE(!shown->empty() || encode(file, text) == encode(*directory, text)) << text;
  }
  // The variations reach what they are for.
  EXPECT_LE(refused, 3);
  EXPECT_LE(unwritable, 60);
  EXPECT_GE(without_gaps, 50);
  told[GgufGap::kModel] = 1;  // of other kinds of models (token_models_test.cc)
  for (int gap = 0; gap <= static_cast<int>(GgufGap::kTokensAfter); ++gap) EXPECT_GE(told[static_cast<GgufGap>(gap)], 1) << gap;
}

}  // namespace
}  // namespace ingot
