// Tokenizers as GGUF metadata, read and written as llama.cpp and its converter do.
#include <algorithm>

#include "tokenizer/parts.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

// Added tokens that some models do not mark as special though they are; the converter's list.
bool looks_special(std::string_view t) {
  const auto between = [&](std::string_view head, std::string_view tail) {
    return t.size() >= head.size() && t.substr(0, head.size()) == head && t.size() >= tail.size() &&
           t.substr(t.size() - tail.size()) == tail;
  };
  return t == "<pad>" || t == "<mask>" || t == "<2mass>" || t == "[@BOS@]" || between("<|", "|>") ||
         between("<｜", "｜>") || between("<unused", ">");
}

void replace_all(std::string& s, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size())
    s.replace(at, from.size(), to);
}

bool names_with_bos(std::string_view pre) {
  const NamedPreTokenizer* p = find_pre_tokenizer(pre);
  return p && (p->name == "llama-bpe" || p->name == "tekken" || p->name == "chameleon") &&
         pre.substr(0, 3) != "glm";
}

}  // namespace

Result<std::unique_ptr<TokenizerParts>> read_gguf_vocab(const GgufVocab& vocab) {
  if (vocab.model != "gpt2") {
    return bad_input("tokenizer.ggml.model: {} found; gpt2 (byte-level BPE) is supported",
                     quoted(vocab.model));
  }
  const NamedPreTokenizer* pre = find_pre_tokenizer(vocab.pre);
  if (!pre) return bad_input("tokenizer.ggml.pre: {} is not a known pre-tokenizer", quoted(vocab.pre));
  if (vocab.tokens.empty()) return bad_input("tokenizer.ggml.tokens: no tokens found");
  if (vocab.tokens.size() > (1u << 28))
    return bad_input("tokenizer.ggml.tokens: {} tokens are too many", vocab.tokens.size());
  if (!vocab.token_types.empty() && vocab.token_types.size() != vocab.tokens.size()) {
    return bad_input("tokenizer.ggml.token_type: {} entries found for {} tokens", vocab.token_types.size(),
                     vocab.tokens.size());
  }
  auto parts = std::make_unique<TokenizerParts>();
  size_t bytes = 0;
  for (const auto& t : vocab.tokens) bytes += t.size();
  parts->vocabulary->reserve(vocab.tokens.size(), bytes);
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const std::string& text = vocab.tokens[i];
    const auto id = static_cast<int32_t>(i);
    const auto type =
        vocab.token_types.empty() ? TokenType::kNormal : static_cast<TokenType>(vocab.token_types[i]);
    if (!unicode::is_valid_utf8(text))
      return bad_input("tokenizer.ggml.tokens[{}]: {} is not UTF-8", i, quoted(text));
    if (type == TokenType::kUnused) continue;
    if (parts->vocabulary->add(text, id) == Vocabulary::Added::kTextTaken) {
      return bad_input("tokenizer.ggml.tokens: {} has two ids, {} and {}", quoted(text),
                       parts->vocabulary->find(text), i);
    }
    if (type == TokenType::kControl || type == TokenType::kUserDefined || type == TokenType::kUnknown) {
      if (text.empty()) continue;
      if (text.size() > AddedTokenFinder::kMaxLength) {
        return bad_input(
            "tokenizer.ggml.tokens[{}]: an added token of {} bytes is too long; at most {} are accepted", i,
            text.size(), AddedTokenFinder::kMaxLength);
      }
      AddedToken t;
      t.id = id;
      t.content = text;
      t.special = type != TokenType::kUserDefined;
      parts->added.push_back(std::move(t));
    }
  }
  parts->merges.reserve(vocab.merges.size());
  for (size_t i = 0; i < vocab.merges.size(); ++i) {
    const std::string_view merge = vocab.merges[i];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      return bad_input("tokenizer.ggml.merges[{}]: {} found, expected two tokens with a space between", i,
                       quoted(merge));
    }
    const std::string_view sides[] = {merge.substr(0, space), merge.substr(space + 1)};
    int32_t ids[2];
    for (int k = 0; k < 2; ++k) {
      ids[k] = parts->vocabulary->find(sides[k]);
      if (ids[k] < 0) {
        return bad_input("tokenizer.ggml.merges[{}]: {} names {}, which is not in the vocabulary", i,
                         quoted(merge), quoted(sides[k]));
      }
    }
    parts->merges.push_back({ids[0], ids[1]});
  }
  const auto checked = [&](const char* key, const std::optional<int32_t>& id) -> Status {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= vocab.tokens.size())) {
      return bad_input("tokenizer.ggml.{}_token_id: {} found, but there are {} tokens", key, *id,
                       vocab.tokens.size());
    }
    return {};
  };
  INGOT_TRY(checked("bos", vocab.bos));
  INGOT_TRY(checked("eos", vocab.eos));
  INGOT_TRY(checked("unknown", vocab.unk));
  INGOT_TRY(checked("seperator", vocab.sep));
  INGOT_TRY(checked("padding", vocab.pad));
  INGOT_TRY(checked("mask", vocab.mask));
  INGOT_TRY(checked("eot", vocab.eot));
  INGOT_TRY(checked("eom", vocab.eom));
  parts->special = {vocab.bos, vocab.eos, vocab.unk,     vocab.sep,     vocab.pad,    vocab.mask,
                    vocab.eot, vocab.eom, vocab.add_bos, vocab.add_eos, vocab.add_sep,
                    vocab.fim_pad, vocab.fim_rep, vocab.fim_sep};
  if (vocab.add_bos.value_or(names_with_bos(vocab.pre)) && vocab.bos) parts->prefix.push_back(*vocab.bos);
  if (vocab.add_eos.value_or(false) && vocab.eos) parts->suffix.push_back(*vocab.eos);

  if (pre->nfc) parts->normalizer.push_back({});
  parts->pre_tokenizer = pre->rules;
  parts->pre_name = vocab.pre.empty() ? "default" : vocab.pre;
  parts->decoder.push_back({});
  parts->add_space_prefix = vocab.add_space_prefix;
  parts->chat_template = vocab.chat_template;
  parts->chat_templates = vocab.chat_templates;
  BpeOptions options;
  options.byte_level = true;
  options.ignore_merges = pre->ignore_merges;
  INGOT_ASSIGN(auto bpe, Bpe::make(*parts->vocabulary, parts->merges, options));
  parts->bpe = bpe.get();
  parts->model = std::move(bpe);
  return parts;
}

Result<GgufVocab> write_gguf_vocab(const TokenizerParts& parts, const std::string& pre, size_t n_vocab) {
  GgufVocab v;
  v.model = "gpt2";
  v.pre = pre;
  v.tokens.resize(n_vocab);
  v.token_types.assign(n_vocab, static_cast<int32_t>(TokenType::kUnused));
  const Vocabulary& vocabulary = *parts.vocabulary;
  for (size_t i = 0; i < n_vocab; ++i) {
    if (vocabulary.has(static_cast<int32_t>(i))) {
      v.tokens[i] = std::string(vocabulary.text(static_cast<int32_t>(i)));
      v.token_types[i] = static_cast<int32_t>(TokenType::kNormal);
    } else {
      v.tokens[i] = "[PAD" + std::to_string(i) + "]";
    }
  }
  for (const AddedToken& t : parts.added) {
    if (static_cast<size_t>(t.id) >= n_vocab) continue;
    std::string text = t.content;
    TokenType type = TokenType::kControl;
    if (!t.special && !looks_special(text)) {
      type = TokenType::kUserDefined;
      replace_all(text, "\u2581", " ");
    }
    v.tokens[static_cast<size_t>(t.id)] = std::move(text);
    v.token_types[static_cast<size_t>(t.id)] = static_cast<int32_t>(type);
  }
  v.merges.reserve(parts.merges.size());
  for (const BpeMerge& m : parts.merges) {
    std::string left(vocabulary.text(m.left)), right(vocabulary.text(m.right));
    // A space inside a token would read as the end of it.
    replace_all(left, " ", "\u0120");
    replace_all(right, " ", "\u0120");
    v.merges.push_back(left + " " + right);
  }
  const SpecialIds& s = parts.special;
  v.bos = s.bos, v.eos = s.eos, v.unk = s.unk, v.sep = s.sep, v.pad = s.pad, v.mask = s.mask, v.eot = s.eot,
  v.eom = s.eom;
  for (auto* id : {&v.bos, &v.eos, &v.unk, &v.sep, &v.pad, &v.mask, &v.eot, &v.eom}) {
    if (*id && static_cast<size_t>(**id) >= n_vocab)
      id->reset();  // config.json may name rows that do not exist
  }
  v.add_bos = s.add_bos, v.add_eos = s.add_eos, v.add_sep = s.add_sep;
  v.add_space_prefix = parts.add_space_prefix;
  v.chat_template = parts.chat_template;
  v.chat_templates = parts.chat_templates;
  return v;
}

}  // namespace ingot
