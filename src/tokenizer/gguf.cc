// Tokenizers as GGUF metadata, read and written as llama.cpp (llama-vocab.cpp) and its converter do.
#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <unordered_map>

#include "tokenizer/gguf_roles.h"
#include "tokenizer/llama_texts.h"
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

std::string with_spaces(std::string_view text) {
  constexpr std::string_view kMark = "\u2581";
  std::string out;
  for (size_t at; (at = text.find(kMark)) != text.npos; text.remove_prefix(at + kMark.size())) out.append(text.substr(0, at)) += ' ';
  return out.append(text);
}

bool is_glm(std::string_view pre) { return pre.starts_with("glm") || pre.starts_with("chatglm"); }

bool names_with_bos(std::string_view pre) {
  const NamedPreTokenizer* p = find_pre_tokenizer(pre);
  return p && (p->name == "llama-bpe" || p->name == "tekken" || p->name == "chameleon") && !is_glm(pre);
}

// Tokens that llama.cpp takes for control tokens whatever their type: ends of generation and of turns, and those of
// filling in the middle.
constexpr std::span<const std::string_view> kControlTexts[] = {llama_texts::kEnds,   llama_texts::kFim,    llama_texts::kFimPad,
                                                               llama_texts::kFimRep, llama_texts::kFimSep};
constexpr std::string_view kShownTexts[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};  // gpt-oss

// The types of tokens as llama.cpp sees them once it has loaded the file.
std::vector<TokenType> types_when_loaded(const GgufVocab& vocab) {
  std::vector<TokenType> types(vocab.tokens.size(), TokenType::kNormal);
  std::unordered_map<std::string_view, size_t> at;  // the special texts that are there
  for (const auto& list : kControlTexts)
    for (const std::string_view t : list) at[t] = SIZE_MAX;
  for (const std::string_view t : kShownTexts) at[t] = SIZE_MAX;
  for (size_t i = 0; i < types.size(); ++i) {
    if (!vocab.token_types.empty()) types[i] = static_cast<TokenType>(vocab.token_types[i]);
    if (const auto it = at.find(vocab.tokens[i]); it != at.end()) it->second = i;
  }
  const auto set = [&](std::string_view text, TokenType type) {
    if (const size_t i = at[text]; i != SIZE_MAX) types[i] = type;
  };
  const auto has = [&](std::string_view text) { return at[text] != SIZE_MAX; };
  // A FIM token that the file names is sought by no text.
  const bool named[] = {false, false, vocab.fim_pad.has_value(), vocab.fim_rep.has_value(), vocab.fim_sep.has_value()};
  for (size_t i = 0; i < std::size(kControlTexts); ++i)
    for (const std::string_view t : kControlTexts[i])
      if (!named[i]) set(t, TokenType::kControl);
  for (const std::string_view t : kShownTexts) set(t, TokenType::kUserDefined);
  const std::string_view eos = vocab.eos && static_cast<size_t>(*vocab.eos) < types.size() ? vocab.tokens[static_cast<size_t>(*vocab.eos)] : "";
  for (const auto& [text, type] : {std::pair("<|end|>", TokenType::kUserDefined), std::pair("</s>", TokenType::kNormal)})
    if (llama_texts::ends_nothing(text, has, eos)) set(text, type);
  return types;
}

// White space that llama.cpp takes with tokens of a few models, which it knows by their names.
void add_strips(const GgufVocab& vocab, std::vector<AddedToken>& added) {
  std::string name = vocab.name;
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  const auto has = [](std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; };
  const bool jina = has(vocab.pre, "jina-v2-de") || has(vocab.pre, "jina-v2-es") || has(vocab.pre, "jina-v2-code");
  const bool phi3 = has(name, "phi-3") || has(name, "phi3"), modern_bert = has(name, "modern-bert");
  for (AddedToken& t : added) {
    if (jina) t.lstrip = t.content == "<mask>";
    else if (phi3) t.rstrip = t.content != "<unk>" && t.content != "<s>" && t.content != "<|endoftext|>";
    else if (modern_bert) t.lstrip = t.content == "[MASK]";
  }
}

// llama.cpp reads texts up to a zero byte, and stops with an assertion where two are the same.
Status check_texts(const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, size_t> seen;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view text = tokens[i];
    if (text.find('\0') != text.npos)
      return bad_input("the token {} ({}) holds a zero byte, which llama.cpp cannot load: take it out of tokenizer.json", i, quoted(text));
    if (const auto [it, fresh] = seen.emplace(text, i); !fresh)
      return bad_input("the tokens {} and {} would both be {} in the file, which llama.cpp cannot load: rename one in tokenizer.json",
                       it->second, i, quoted(text));
  }
  return {};
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
  const std::vector<TokenType> types = types_when_loaded(vocab);
  size_t bytes = 0;
  for (const auto& t : vocab.tokens) bytes += t.size();
  parts->vocabulary->reserve(vocab.tokens.size(), bytes);
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const std::string& text = vocab.tokens[i];
    const auto id = static_cast<int32_t>(i);
    const TokenType type = types[i];
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
  parts->longest_first = true;
  add_strips(vocab, parts->added);
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
  // A file that names no BOS or EOS has GPT-2 in mind.
  constexpr int32_t kGpt2End = 11;
  const bool has_default = vocab.tokens.size() > kGpt2End;
  const auto bos = vocab.bos || !has_default || is_glm(vocab.pre) ? vocab.bos : kGpt2End;
  const auto eos = vocab.eos || !has_default ? vocab.eos : kGpt2End;
  if (eos) parts->ends.push_back(*eos);
  if (vocab.add_bos.value_or(names_with_bos(vocab.pre)) && bos) parts->prefix.push_back(*bos);
  if (vocab.add_eos.value_or(false) && eos) parts->suffix.push_back(*eos);

  parts->pre_tokenizer = pre->rules;
  parts->pre_name = vocab.pre.empty() ? "default" : vocab.pre;
  parts->decoder.push_back({});
  parts->add_space_prefix = vocab.add_space_prefix;
  parts->chat_template = vocab.chat_template;
  parts->chat_templates = vocab.chat_templates;
  BpeOptions options;
  options.byte_level = true;
  options.ignore_merges = pre->ignore_merges;
  options.first_counts = true;
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
      text = with_spaces(text);
    }
    v.tokens[static_cast<size_t>(t.id)] = std::move(text);
    v.token_types[static_cast<size_t>(t.id)] = static_cast<int32_t>(type);
  }
  v.merges.reserve(parts.merges.size());
  for (size_t i = 0; i < parts.merges.size(); ++i) {
    const BpeMerge& m = parts.merges[i];
    const std::string_view left = vocabulary.text(m.left), right = vocabulary.text(m.right);
    // Not what is listed again; and a side with a space, which separates here, is never made of bytes.
    if ((parts.bpe && !parts.bpe->ranks(m, i)) || left.find(' ') != left.npos || right.find(' ') != right.npos) continue;
    v.merges.push_back(fmt::format("{} {}", left, right));
  }
  INGOT_TRY(check_texts(v.tokens));
  place_roles(parts, names_with_bos(pre), &v);
  v.add_space_prefix = parts.add_space_prefix;
  v.chat_template = parts.chat_template;
  v.chat_templates = parts.chat_templates;
  return v;
}

}  // namespace ingot
