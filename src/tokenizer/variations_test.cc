// 300 random variations of a byte-level BPE tokenizer (tests/data/vocabs/make_variations.py): the ids of the directory are those
// of the tokenizers library, and those of the GGUF file are the same but for gaps that are found and told.
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
    all.back().file.merge_patch(v["patch"]);
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
  for (const auto& [text, id] : byte_bpe()["model"]["vocab"].items()) unknown = unknown || !model["vocab"].contains(text);
  may(GgufGap::kUnknownBytes, unknown);
  may(GgufGap::kTokensBefore, before.size() > 1 || (before.empty() ? written.add_bos.value_or(false) : before[0] != written.bos));
  may(GgufGap::kTokensAfter, after.size() > 1 || (after.empty() ? written.add_eos.value_or(false) : after[0] != written.eos));
  return gaps;
}

TEST(TokenizerVariations, AreTheLibrarysAndGgufsGapsAreTold) {
  const std::vector<Variation> all = variations();
  ASSERT_EQ(all.size(), 300u);
  std::map<std::string, int> refused, unwritable;
  std::map<GgufGap, int> told;
  int written = 0, silent = 0;
  for (size_t n = 0; n < all.size(); ++n) {
    const Variation& v = all[n];
    SCOPED_TRACE("line " + std::to_string(n + 2));
    const auto t = Tokenizer::from_hf({v.file.dump(), v.config.dump(), {}, {}});
    if (!t.ok()) {
      ++refused[t.error().message];
      continue;
    }
    const auto texts = v.texts.get<std::vector<std::string>>();
    for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(encode(*t, texts[i]), v.ids[i].get<Ids>()) << texts[i];
    EXPECT_EQ(encode(*t, texts[0], true), v.special.get<Ids>()) << texts[0];

    const auto vocab = t->to_gguf_vocab();
    if (!vocab.ok()) {
      ++unwritable[vocab.error().message.substr(0, 60)];
      continue;
    }
    ++written;
    const Tokenizer gguf = must(Tokenizer::from_gguf(*vocab));
    const auto found = find_gguf_gaps(*t, *vocab), shown = find_gguf_gaps(*t, *vocab, texts);
    ASSERT_TRUE(found.ok() && shown.ok());
    std::set<GgufGap> gaps;
    for (const GgufFinding& f : *found) {
      gaps.insert(f.gap);
      EXPECT_NE(f.ours, f.theirs) << f.describe();
      ++told[f.gap];
    }
    silent += gaps.empty();
    for (const GgufFinding& f : *shown) EXPECT_TRUE(gaps.count(f.gap)) << "not found by probes: " << f.describe();
    for (const std::string& text : texts)
      EXPECT_TRUE(!shown->empty() || encode(gguf, text) == encode(*t, text)) << text;
    const Ids special = encode(*t, "Hello", true), plain = encode(*t, "Hello");
    const auto at = std::search(special.begin(), special.end(), plain.begin(), plain.end());
    const auto expected = expected_gaps(v.file, Ids(special.begin(), at), Ids(at + static_cast<std::ptrdiff_t>(plain.size()), special.end()), *vocab);
    for (const GgufFinding& f : *found) EXPECT_TRUE(expected.count(f.gap)) << "unexpected: " << f.describe() << "\n" << v.file["added_tokens"];
  }
  for (auto& [m, c] : refused) std::cout << c << " refused: " << m << "\n";
  for (auto& [m, c] : unwritable) std::cout << c << " unwritable: " << m << "\n";
  for (auto& [m, c] : told) std::cout << c << " told: " << int(m) << "\n";
  std::cout << written << " written, " << silent << " silent\n";
}

}  // namespace
}  // namespace ingot
