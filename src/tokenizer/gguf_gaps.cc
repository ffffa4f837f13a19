#include "tokenizer/gguf_gaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "tokenizer/gguf_probes.h"
#include "tokenizer/parts.h"
#include "tokenizer/text.h"

namespace ingot {
namespace {

using Ids = std::vector<int32_t>;

// Makes one thing of a tokenizer that of llama.cpp; false where it was already.
using Step = Result<bool> (*)(TokenizerParts& now, const TokenizerParts& goal);

template <class F>
bool each_token(TokenizerParts& now, F change) {
  bool changed = false;
  for (AddedToken& t : now.added) changed = change(t) || changed;
  return changed;
}
template <class T>
bool change(T& now, T goal) {
  return std::exchange(now, goal) != goal;
}

const AddedToken* token_of(const TokenizerParts& parts, int32_t id) {
  for (const AddedToken& t : parts.added)
    if (t.id == id) return &t;
  return nullptr;
}

Result<bool> search_unnormalized(TokenizerParts& now, const TokenizerParts&) {
  return each_token(now, [](AddedToken& t) { return change(t.normalized, false); });
}
Result<bool> drop_normalizer(TokenizerParts& now, const TokenizerParts&) { return !std::exchange(now.normalizer, {}).empty(); }
Result<bool> strip_alike(TokenizerParts& now, const TokenizerParts& goal) {
  return each_token(now, [&](AddedToken& t) {
    const AddedToken* other = token_of(goal, t.id);
    const bool left = change(t.lstrip, other && other->lstrip), right = change(t.rstrip, other && other->rstrip);
    return left || right;
  });
}
Result<bool> drop_single_word(TokenizerParts& now, const TokenizerParts&) {
  return each_token(now, [](AddedToken& t) { return change(t.single_word, false); });
}
Result<bool> longest_first(TokenizerParts& now, const TokenizerParts&) { return change(now.longest_first, true) && !now.added.empty(); }
Result<bool> same_tokens(TokenizerParts& now, const TokenizerParts& goal) {
  now.added = goal.added;
  return true;
}
Result<bool> drop_space_prefix(TokenizerParts& now, const TokenizerParts&) {
  bool changed = false;
  for (PreTokenizerRule& r : now.pre_tokenizer) changed = change(r.add_prefix_space, false) || changed;
  return changed;
}
Result<bool> same_pre_tokenizer(TokenizerParts& now, const TokenizerParts& goal) {
  return change(now.pre_tokenizer, goal.pre_tokenizer);
}
Result<bool> merge_alike(TokenizerParts& now, const TokenizerParts& goal) {
  BpeOptions options = now.bpe->options();
  if (!change(options.ignore_merges, goal.bpe->options().ignore_merges)) return false;
  INGOT_ASSIGN(auto bpe, Bpe::make(*now.vocabulary, now.merges, options));
  now.bpe = bpe.get();
  now.model = std::move(bpe);
  return true;
}
Result<bool> same_model(TokenizerParts& now, const TokenizerParts& goal) {
  now.vocabulary = goal.vocabulary;
  now.model = goal.model;
  now.bpe = goal.bpe;
  return true;
}

Result<bool> parse_special(TokenizerParts& now, const TokenizerParts&) { return change(now.split_special, false); }

Result<bool> same_text_rules(TokenizerParts& now, const TokenizerParts& goal) {
  now.normalizer = goal.normalizer;
  now.pre_tokenizer = goal.pre_tokenizer;
  return true;
}

using Steps = std::vector<std::pair<GgufGap, Step>>;
const Steps kBytes = {{GgufGap::kNormalizedTokens, search_unnormalized},
                      {GgufGap::kNormalizer, drop_normalizer},
                      {GgufGap::kSpaceAtTokens, strip_alike},
                      {GgufGap::kSingleWord, drop_single_word},
                      {GgufGap::kTokenOrder, longest_first},
                      {GgufGap::kTokenTexts, same_tokens},
                      {GgufGap::kSpacePrefix, drop_space_prefix},
                      {GgufGap::kPreTokenizer, same_pre_tokenizer},
                      {GgufGap::kIgnoreMerges, merge_alike},
                      {GgufGap::kUnknownBytes, same_model},
                      {GgufGap::kSplitSpecial, parse_special}};
// In the other models the rules of the text are the file's as a whole.
const Steps kOthers = {{GgufGap::kNormalizedTokens, search_unnormalized}, {GgufGap::kNormalizer, same_text_rules},
                      {GgufGap::kSpaceAtTokens, strip_alike}, {GgufGap::kSingleWord, drop_single_word}, {GgufGap::kTokenOrder, longest_first},
                      {GgufGap::kTokenTexts, same_tokens}, {GgufGap::kModel, same_model}, {GgufGap::kSplitSpecial, parse_special}};

// Ids around the first one that differs.
std::string shown(const Ids& ids, const Ids& others) {
  constexpr size_t kShown = 8;
  size_t from = 0;
  while (from < ids.size() && from < others.size() && ids[from] == others[from]) ++from;
  from = from > 2 ? from - 2 : 0;
  const size_t to = std::min(ids.size(), from + kShown);
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(from), end = ids.begin() + static_cast<std::ptrdiff_t>(to);
  return fmt::format("[{}{}{}]", from > 0 ? "..., " : "", fmt::join(begin, end, ", "), to < ids.size() ? ", ..." : "");
}

}  // namespace

class GgufGapFinder {
 public:
  GgufGapFinder(const Tokenizer& directory, const GgufVocab& written) : directory_(&directory), written_(written) {}

  Result<std::vector<GgufFinding>> run(std::optional<std::vector<std::string>> texts) {
    INGOT_ASSIGN(const Tokenizer file, Tokenizer::from_gguf(written_));
    // Tokens that were left out for want of a row (Tokenizer::to_gguf_vocab) are nothing that GGUF could not say.
    auto with_rows = std::make_unique<TokenizerParts>(directory_->parts());
    std::optional<Tokenizer> cut;
    if (std::erase_if(with_rows->added, [&](const AddedToken& t) { return static_cast<size_t>(t.id) >= written_.tokens.size(); }) > 0) {
      INGOT_ASSIGN(cut, Tokenizer::build(std::move(with_rows)));
      directory_ = &*cut;
    }
    const TokenizerParts &ours = directory_->parts(), &goal = file.parts();
    if (!texts) {
      INGOT_ASSIGN(texts, gguf_probes(ours, goal));
    }
    for (const std::string& text : *texts) {
      auto encoded = directory_->encode(text, false);
      if (!encoded.ok()) continue;  // there is nothing that a file could say
      Ids a = std::move(*encoded);
      INGOT_ASSIGN(Ids b, file.encode(text, false));
      if (a != b) differing_.push_back({text, a, std::move(b), std::move(a)});
    }
    std::stable_sort(differing_.begin(), differing_.end(), [](const Text& a, const Text& b) { return a.text.size() < b.text.size(); });
    TokenizerParts now = ours;
    for (const auto& [gap, step] : written_.model == "gpt2" ? kBytes : kOthers) {
      if (differing_.empty()) break;
      INGOT_ASSIGN(const bool changed, step(now, goal));
      if (changed) INGOT_TRY(compare(gap, now));
    }
    if (ours.prefix != goal.prefix) INGOT_TRY(add_around(GgufGap::kTokensBefore, file));
    if (ours.suffix != goal.suffix) INGOT_TRY(add_around(GgufGap::kTokensAfter, file));
    return std::move(findings_);
  }

 private:
  struct Text {
    std::string text;
    Ids ours, theirs;
    Ids now;  // after the last step
  };

  // The first text that the step changes is its example.
  Status compare(GgufGap gap, const TokenizerParts& parts) {
    INGOT_ASSIGN(const Tokenizer tokenizer, Tokenizer::build(std::make_unique<TokenizerParts>(parts)));
    bool told = false;
    for (Text& t : differing_) {
      INGOT_ASSIGN(Ids ids, tokenizer.encode(t.text, false));
      if (std::exchange(t.now, ids) == ids || std::exchange(told, true)) continue;
      findings_.push_back({gap, what(gap), t.text, t.ours, t.theirs});
    }
    return {};
  }
  Status add_around(GgufGap gap, const Tokenizer& file) {
    constexpr const char* kText = "Hello";
    INGOT_ASSIGN(Ids a, directory_->encode(kText, true));
    INGOT_ASSIGN(Ids b, file.encode(kText, true));
    findings_.push_back({gap, what(gap), kText, std::move(a), std::move(b)});
    return {};
  }

  static std::string unsaid(const char* token, const char* where, const char* key) {
    return fmt::format("whether {0} is put {1} a text where no file of the directory does: left out, as the reference converter does, and "
                       "llama.cpp puts it; \"{2}\": true or false in tokenizer_config.json settles it", token, where, key);
  }
  std::string what(GgufGap gap) const {
    const TokenizerParts& ours = directory_->parts();
    switch (gap) {
      case GgufGap::kNormalizedTokens:
        return "that added tokens are sought in the normalized text (\"normalized\"): llama.cpp seeks all of them in the text as it is";
      case GgufGap::kNormalizer: {
        std::string rules;
        for (const NormalizerRule& r : ours.normalizer) rules += (rules.empty() ? "" : ", ") + r.describe();
        if (written_.model != "gpt2") {
          for (const PreTokenizerRule& r : ours.pre_tokenizer) rules += (rules.empty() ? "" : ", ") + r.describe();
          return fmt::format("how text is normalized and where a space is put before it ({}): llama.cpp does as with all models of the kind {}",
                             rules, quoted(std::string_view(written_.model)));
        }
        return fmt::format("that text is normalized ({}): llama.cpp takes it as it is", rules);
      }
      case GgufGap::kSpaceAtTokens:
        return "that added tokens take the white space beside them (lstrip, rstrip): llama.cpp leaves it to the text";
      case GgufGap::kSingleWord:
        return "that added tokens count only as whole words (single_word): llama.cpp takes them out of words too";
      case GgufGap::kTokenOrder:
        return "that of overlapping added tokens the first in the text counts: to llama.cpp it is the longest";
      case GgufGap::kTokenTexts:
        return "which texts are tokens whatever stands around them: llama.cpp goes by their spelling";
      case GgufGap::kSpacePrefix:
        return "that a space is put before text (add_prefix_space): llama.cpp puts none";
      case GgufGap::kPreTokenizer:
        return fmt::format("by which rules text is cut into pieces but by a name, and llama.cpp's rules of the name {} are others",
                           quoted(std::string_view(written_.pre)));
      case GgufGap::kIgnoreMerges:
        return fmt::format("ignore_merges ({} here) but by the name {}, under which llama.cpp does otherwise",
                           ours.bpe->options().ignore_merges, quoted(std::string_view(written_.pre)));
      case GgufGap::kUnknownBytes:
        return "what becomes of bytes that have no token (unk_token, byte_fallback): llama.cpp leaves them out";
      case GgufGap::kModel:
        if (written_.model == "llama")
          return "which pairs of tokens merge, but by a score for each token: llama.cpp merges whatever is a token together";
        return fmt::format("all that the model does: llama.cpp has rules of its own for the kind {}", quoted(std::string_view(written_.model)));
      case GgufGap::kTokensBefore:
        if (!written_.add_bos) return unsaid("BOS", "before", "add_bos_token");
        return fmt::format("that the tokens [{}] are put before a text: llama.cpp puts BOS or nothing", fmt::join(ours.prefix, ", "));
      case GgufGap::kTokensAfter:
        if (!written_.add_eos) return unsaid("EOS", "after", "add_eos_token");
        return fmt::format("that the tokens [{}] are put after a text: llama.cpp puts EOS or nothing", fmt::join(ours.suffix, ", "));
      case GgufGap::kSplitSpecial:
        return "that special tokens written in a text are text (split_special_tokens): llama.cpp takes them as the tokens, unless it is run without parse_special";
    }
    return {};
  }

  const Tokenizer* directory_;
  const GgufVocab& written_;
  std::vector<Text> differing_;
  std::vector<GgufFinding> findings_;
};

std::string GgufFinding::describe() const {
  return fmt::format("GGUF cannot say {}; {} is {} here and {} there", what, quoted(text), shown(ours, theirs), shown(theirs, ours));
}

Result<std::vector<GgufFinding>> find_gguf_gaps(const Tokenizer& directory, const GgufVocab& written, std::vector<std::string> texts) {
  return GgufGapFinder(directory, written).run(std::move(texts));
}
Result<std::vector<GgufFinding>> find_gguf_gaps(const Tokenizer& directory, const GgufVocab& written) {
  return GgufGapFinder(directory, written).run(std::nullopt);
}

}  // namespace ingot
