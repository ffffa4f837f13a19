// Tokenizers written as GGUF metadata, as the reference converter does it: _set_vocab_gpt2, _set_vocab_sentencepiece (LlamaHfVocab
// without a tokenizer.model), and those of BERT and T5.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "tokenizer/byte_tokens.h"
#include "tokenizer/gguf_models.h"
#include "tokenizer/gguf_roles.h"
#include "tokenizer/overlay.h"
#include "tokenizer/text.h"

namespace ingot {
namespace {

constexpr float kAddedScore = -1000, kNoTokenScore = -10000;

void set_token(GgufVocab& v, size_t id, std::string text, TokenType type) {
  v.tokens[id] = std::move(text);
  v.token_types[id] = static_cast<int32_t>(type);
  if (!v.scores.empty()) v.scores[id] = kAddedScore;
}

std::string added_text(const AddedToken& t) { return t.special || looks_special(t.content) ? t.content : with_spaces(t.content); }

void set_added(GgufVocab& v, const AddedToken& t) {
  const bool control = t.special || looks_special(t.content);
  set_token(v, static_cast<size_t>(t.id), added_text(t), control ? TokenType::kControl : TokenType::kUserDefined);
}

void write_merges(const TokenizerParts& parts, GgufVocab& v) {
  v.merges.reserve(parts.merges.size());
  for (size_t i = 0; i < parts.merges.size(); ++i) {
    const BpeMerge& m = parts.merges[i];
    const std::string_view left = parts.vocabulary->text(m.left), right = parts.vocabulary->text(m.right);
    // Not what is listed again; and a side with a space, which separates here, is never made of bytes.
    if (!parts.bpe->ranks(m, i) || left.find(' ') != left.npos || right.find(' ') != right.npos) continue;
    v.merges.push_back(fmt::format("{} {}", left, right));
  }
}

// The scores and types of tokenizer.model, and what the other files have the converter lay over them.
void write_pieces(const TokenizerParts& parts, GgufVocab& v) {
  for (size_t i = 0; i < std::min(parts.types.size(), v.tokens.size()); ++i) {
    v.scores[i] = parts.scores[i];
    const TokenType type = parts.types[i];
    v.token_types[i] = static_cast<int32_t>(type == TokenType::kUserDefined ? TokenType::kNormal : type);
  }
  std::unordered_set<std::string_view> laid;
  for (const OverlaidToken& t : parts.overlay)
    if (t.id >= 0 && static_cast<size_t>(t.id) < v.tokens.size()) set_token(v, static_cast<size_t>(t.id), t.text, t.type), laid.insert(t.text);
  // A token that these files give an id beyond the next free one stays there, as in transformers 4 and with which the model was trained.
  for (const AddedToken& t : parts.added)
    if (const auto id = static_cast<size_t>(t.id); id >= parts.types.size() && id < v.tokens.size() &&
                                                   v.token_types[id] == static_cast<int32_t>(TokenType::kUnused) && !laid.count(added_text(t)))
      set_added(v, t);
}

// Without that file: scores that give the merges their order. (The converter's are all alike, which makes other tokens of most texts.)
void write_ranks(const TokenizerParts& parts, GgufVocab& v) {
  std::vector<int32_t> made;  // by merges, in their order
  std::vector<bool> seen(v.tokens.size(), false);
  std::string joined;
  for (const BpeMerge& m : parts.merges) {
    joined.assign(parts.vocabulary->text(m.left)).append(parts.vocabulary->text(m.right));
    const auto id = static_cast<size_t>(parts.vocabulary->find(joined));
    if (id < seen.size() && !seen[id]) seen[id] = true, made.push_back(static_cast<int32_t>(id));
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.token_types[i] == static_cast<int32_t>(TokenType::kUnused)) continue;
    v.scores[i] = -static_cast<float>(made.size());  // behind all
    if (token_byte(v.tokens[i]) >= 0) v.token_types[i] = static_cast<int32_t>(TokenType::kByte), v.scores[i] = 0;
  }
  for (size_t rank = 0; rank < made.size(); ++rank) v.scores[static_cast<size_t>(made[rank])] = -static_cast<float>(rank);
}

void write_text_rules(const TokenizerParts& parts, GgufVocab& v) {
  for (const NormalizerRule& r : parts.normalizer) {
    if (r.kind == NormalizerRule::Kind::kPrecompiled) v.charsmap = r.charsmap->bytes();
    if (r.kind == NormalizerRule::Kind::kReplaceRegex && r.pattern.find(" {2,}") != std::string::npos) v.remove_extra_whitespaces = true;
    if (r.kind == NormalizerRule::Kind::kLowercase) v.lowercase = true;
    if (r.kind == NormalizerRule::Kind::kStripAccents) v.strip_accents = true;
    if (r.kind == NormalizerRule::Kind::kBert) v.lowercase = r.lowercase, v.strip_accents = r.strip_accents;
  }
  if (v.model == "bert") v.lowercase = v.lowercase.value_or(false), v.strip_accents = v.strip_accents.value_or(false);
  if (v.model == "t5") v.remove_extra_whitespaces = v.remove_extra_whitespaces.value_or(false);
}

// llama.cpp reads texts up to a zero byte, and stops with an assertion where two are the same.
Status check_texts(const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, size_t> seen;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view text = tokens[i];
    if (text.find('\0') != text.npos)
      return bad_input("the token {} ({}) holds a zero byte, which llama.cpp cannot load: take it out of the tokenizer's files", i, quoted(text));
    if (const auto [it, fresh] = seen.emplace(text, i); !fresh)
      return bad_input("the tokens {} and {} would both be {} in the file, which llama.cpp cannot load: rename one in the tokenizer's files",
                       it->second, i, quoted(text));
  }
  return {};
}

}  // namespace

Result<GgufVocab> write_gguf_vocab(const TokenizerParts& parts, const std::string& pre, size_t n_vocab) {
  GgufVocab v;
  v.model = gguf_model_of(parts);
  v.pre = pre;
  v.tokens.resize(n_vocab);
  v.token_types.assign(n_vocab, static_cast<int32_t>(TokenType::kUnused));
  if (v.model == "llama" || v.model == "t5") v.scores.assign(n_vocab, kNoTokenScore);
  const Vocabulary& vocabulary = *parts.vocabulary;
  for (size_t i = 0; i < n_vocab; ++i) {
    if (vocabulary.has(static_cast<int32_t>(i))) {
      v.tokens[i] = std::string(vocabulary.text(static_cast<int32_t>(i)));
      v.token_types[i] = static_cast<int32_t>(TokenType::kNormal);
    } else {
      v.tokens[i] = "[PAD" + std::to_string(i) + "]";
    }
  }
  if (v.model == "t5")
    for (size_t i = 0; i < std::min(n_vocab, parts.unigram->scores().size()); ++i)
      if (vocabulary.has(static_cast<int32_t>(i))) v.scores[i] = static_cast<float>(parts.unigram->scores()[i]);
  if (!parts.types.empty()) {
    write_pieces(parts, v);
  } else {
    if (v.model == "llama") write_ranks(parts, v);
    for (const AddedToken& t : parts.added)
      if (static_cast<size_t>(t.id) < n_vocab) set_added(v, t);
  }
  if (v.model == "t5" && static_cast<size_t>(parts.unigram->options().unk_id) < n_vocab)
    v.token_types[static_cast<size_t>(parts.unigram->options().unk_id)] = static_cast<int32_t>(TokenType::kUnknown);
  if (v.model == "bert") {
    const std::string& going_on = parts.word_piece->options().going_on;
    for (size_t i = 0; i < n_vocab; ++i)
      if (v.token_types[i] != static_cast<int32_t>(TokenType::kControl))
        v.tokens[i] = v.tokens[i].starts_with(going_on) ? v.tokens[i].substr(going_on.size()) : "\u2581" + v.tokens[i];
  }
  if (v.model == "gpt2") write_merges(parts, v);
  else write_text_rules(parts, v);
  INGOT_TRY(check_texts(v.tokens));
  place_roles(parts, &v);
  if (v.model == "t5" && !v.unk) v.unk = parts.unigram->options().unk_id;
  if (v.model == "bert") {
    if (!v.unk && parts.word_piece->options().unk_id >= 0) v.unk = parts.word_piece->options().unk_id;
    if (parts.prefix.size() == 1) v.bos = parts.prefix[0];
    if (parts.suffix.size() == 1) v.sep = parts.suffix[0];
  }
  v.add_space_prefix = parts.add_space_prefix;
  if (v.model == "llama" || v.model == "t5") v.add_space_prefix = puts_space_before(parts);
  v.chat_template = parts.chat_template;
  v.chat_templates = parts.chat_templates;
  return v;
}

}  // namespace ingot
