#include "tokenizer/gguf_models.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tokenizer/byte_tokens.h"
#include "tokenizer/spm.h"
#include "tokenizer/text.h"

namespace ingot {
namespace {

constexpr std::string_view kMark = "\u2581";

NormalizerRule prepend_mark(bool unless_blank) {
  NormalizerRule r;
  r.kind = NormalizerRule::Kind::kPrepend;
  r.content = kMark;
  r.unless_blank = unless_blank;
  return r;
}
NormalizerRule replace(std::string pattern, std::string_view content, bool regex = false) {
  NormalizerRule r;
  r.kind = regex ? NormalizerRule::Kind::kReplaceRegex : NormalizerRule::Kind::kReplaceString;
  r.pattern = std::move(pattern);
  r.content = content;
  return r;
}

// Marks become spaces, byte tokens bytes, and the space that was put first goes.
void add_decoder(bool bytes, bool prefixed, TokenizerParts& parts) {
  DecoderRule r;
  r.kind = DecoderRule::Kind::kReplace;
  r.pattern = kMark;
  r.content.assign(1, ' ');
  parts.decoder.push_back(r);
  if (bytes) parts.decoder.emplace_back().kind = DecoderRule::Kind::kByteFallback;
  parts.decoder.emplace_back().kind = DecoderRule::Kind::kFuse;
  if (!prefixed) return;
  r.kind = DecoderRule::Kind::kStrip;
  r.start = 1;
  parts.decoder.push_back(std::move(r));
}

// What a file that does not say has: an id, if there are so many tokens.
void by_default(std::optional<int32_t>& id, int32_t value, const GgufVocab& vocab) {
  if (!id && static_cast<size_t>(value) < vocab.tokens.size()) id = value;
}

Status read_spm(const GgufVocab& vocab, const std::vector<TokenType>& types, TokenizerParts& parts) {
  for (size_t i = 0; i < types.size(); ++i)
    if (types[i] == TokenType::kByte && token_byte(vocab.tokens[i]) < 0)
      return bad_input("tokenizer.ggml.tokens[{}]: {} is of type byte, expected one of <0x00> to <0xFF>", i, quoted(std::string_view(vocab.tokens[i])));
  SpecialIds& s = parts.special;
  by_default(s.bos, 1, vocab);
  by_default(s.eos, 2, vocab);
  by_default(s.unk, 0, vocab);
  if (vocab.add_bos.value_or(true) && s.bos) parts.prefix.push_back(*s.bos);
  if (vocab.add_eos.value_or(false) && s.eos) parts.suffix.push_back(*s.eos);
  const bool prefix = vocab.add_space_prefix.value_or(true);
  if (prefix) parts.normalizer.push_back(prepend_mark(false));
  parts.normalizer.push_back(replace(" ", kMark));
  add_decoder(true, prefix, parts);
  parts.scores = vocab.scores;
  parts.scores.resize(vocab.tokens.size(), 0);
  INGOT_ASSIGN(parts.model, Spm::make(*parts.vocabulary, parts.scores, s.unk.value_or(-1)));
  return {};
}

Status read_wpm(const GgufVocab& vocab, TokenizerParts& parts) {
  SpecialIds& s = parts.special;
  by_default(s.bos, 101, vocab);
  by_default(s.unk, 100, vocab);
  by_default(s.sep, 102, vocab);
  by_default(s.pad, 0, vocab);
  by_default(s.mask, 103, vocab);
  if (!s.unk) return bad_input("tokenizer.ggml.unknown_token_id: missing; WordPiece needs a token for words that it does not know");
  if (s.bos) parts.prefix.push_back(*s.bos);
  if (s.sep) parts.suffix.push_back(*s.sep);
  NormalizerRule r;
  r.kind = NormalizerRule::Kind::kBert;
  r.clean = r.chinese = true;
  r.lowercase = vocab.lowercase.value_or(true);
  r.strip_accents = vocab.strip_accents.value_or(r.lowercase);
  parts.normalizer.push_back(std::move(r));
  parts.pre_tokenizer.emplace_back().kind = PreTokenizerRule::Kind::kBert;
  add_decoder(false, true, parts);
  WordPieceOptions options;
  options.unk_id = *s.unk;
  options.mark = kMark;
  options.going_on.clear();
  options.most_characters = std::numeric_limits<uint64_t>::max();
  auto made = std::make_unique<WordPiece>(*parts.vocabulary, std::move(options));
  parts.word_piece = made.get();
  parts.model = std::move(made);
  return {};
}

Status read_ugm(const GgufVocab& vocab, const std::vector<TokenType>& types, TokenizerParts& parts) {
  SpecialIds& s = parts.special;
  by_default(s.eos, 1, vocab);
  by_default(s.unk, 2, vocab);
  by_default(s.pad, 0, vocab);
  if (vocab.add_bos.value_or(false) && s.bos) parts.prefix.push_back(*s.bos);
  if (vocab.add_eos.value_or(true) && s.eos) parts.suffix.push_back(*s.eos);
  if (!vocab.charsmap.empty()) {
    NormalizerRule r;
    r.kind = NormalizerRule::Kind::kPrecompiled;
    INGOT_ASSIGN(Charsmap map, Charsmap::parse(vocab.charsmap));
    r.charsmap = std::make_shared<Charsmap>(std::move(map));
    r.longest = true;
    parts.normalizer.push_back(std::move(r));
  }
  const bool merge = vocab.remove_extra_whitespaces.value_or(false), prefix = vocab.add_space_prefix.value_or(false);
  if (merge) {
    parts.normalizer.push_back(replace("\\A +| +\\z", "", true));
    parts.normalizer.push_back(replace(" {2,}", " ", true));
  }
  if (merge || prefix) parts.normalizer.push_back(prepend_mark(true));
  parts.normalizer.push_back(replace(" ", kMark));
  add_decoder(false, prefix || merge, parts);
  // Of what is no text of its own the matcher knows nothing, and user-defined tokens cost nothing.
  std::vector<double> scores(vocab.tokens.size(), std::numeric_limits<double>::quiet_NaN());
  float least = std::numeric_limits<float>::max();
  for (size_t i = 0; i < types.size(); ++i) {
    const float score = vocab.scores.empty() ? 0 : vocab.scores[i];
    if (types[i] == TokenType::kNormal) least = std::min(least, score);
    if (types[i] == TokenType::kNormal || types[i] == TokenType::kUnused) scores[i] = score;
    if (types[i] == TokenType::kUserDefined) scores[i] = 0;
  }
  UnigramOptions options;
  options.unk_id = s.unk.value_or(-1);
  options.lookup_unknown = false;
  options.unk_score = least - 10.0f;
  auto made = Unigram::make(*parts.vocabulary, scores, options);
  if (!made.ok()) return made.take_error().during("tokenizer.ggml.unknown_token_id");
  parts.unigram = made->get();
  parts.model = std::move(*made);
  return {};
}

// Whether all that the rules do to a text is to put marks for spaces, or what GGUF leaves out and says so (gguf_gaps.h).
bool only_marks_spaces(const TokenizerParts& parts) {
  using Pre = PreTokenizerRule::Kind;
  using Norm = NormalizerRule::Kind;
  bool marks = false;
  for (const auto& r : parts.normalizer) marks = marks || (r.kind == Norm::kReplaceString && r.pattern == " " && r.content == kMark);
  for (const auto& r : parts.pre_tokenizer) {
    const bool of_spaces = r.pattern == " " || r.pattern == kMark;
    marks = marks || (r.kind == Pre::kMetaspace && r.pattern == kMark);
    if (r.kind == Pre::kMetaspace ? r.pattern != kMark : r.kind == Pre::kSplitString ? !of_spaces : !r.whole_tokens) return false;
  }
  return marks;
}

}  // namespace

Status read_gguf_model(const GgufVocab& vocab, const std::vector<TokenType>& types, TokenizerParts& parts) {
  for (size_t i = 0; i < vocab.scores.size(); ++i)
    if (std::isnan(vocab.scores[i])) return bad_input("tokenizer.ggml.scores[{}]: it is no number", i);
  parts.pre_name = vocab.pre.empty() ? "default" : vocab.pre;
  if (vocab.model == "llama") return read_spm(vocab, types, parts);
  return vocab.model == "bert" ? read_wpm(vocab, parts) : read_ugm(vocab, types, parts);
}

std::string_view gguf_model_of(const TokenizerParts& parts) {
  if (parts.bpe && parts.bpe->options().byte_level) return "gpt2";
  if (parts.bpe && (only_marks_spaces(parts) || !parts.pre_name.empty())) return "llama";
  if (parts.word_piece) return "bert";
  if (parts.unigram && (only_marks_spaces(parts) || !parts.pre_name.empty())) return "t5";
  return {};
}

bool puts_space_before(const TokenizerParts& parts) {
  for (const auto& r : parts.normalizer)
    if (r.kind == NormalizerRule::Kind::kPrepend && r.content == kMark) return true;
  for (const auto& r : parts.pre_tokenizer)
    if (r.kind == PreTokenizerRule::Kind::kMetaspace && r.prepend != PrependScheme::kNever) return true;
  return false;
}

}  // namespace ingot
