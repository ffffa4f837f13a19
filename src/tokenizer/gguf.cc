// Tokenizers as GGUF metadata, read as llama.cpp (llama-vocab.cpp) does: what all kinds have, and byte-level BPE. The other models
// are in gguf_models.cc, writing in gguf_write.cc.
#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <unordered_map>

#include "tokenizer/gguf_models.h"
#include "tokenizer/llama_texts.h"
#include "tokenizer/parts.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

bool is_glm(std::string_view pre) { return pre.starts_with("glm") || pre.starts_with("chatglm"); }

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

// Names under which a file that does not say so has BOS before texts.
bool names_with_bos(std::string_view pre) {
  const NamedPreTokenizer* p = find_pre_tokenizer(pre);
  return p && (p->name == "llama-bpe" || p->name == "tekken" || p->name == "chameleon") && !is_glm(pre);
}

// The byte-level BPE of "gpt2".
Status read_bpe(const GgufVocab& vocab, TokenizerParts& out) {
  TokenizerParts* parts = &out;
  const NamedPreTokenizer* pre = find_pre_tokenizer(vocab.pre);
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
  BpeOptions options;
  options.byte_level = true;
  options.ignore_merges = pre->ignore_merges;
  options.first_counts = true;
  INGOT_ASSIGN(auto bpe, Bpe::make(*parts->vocabulary, parts->merges, options));
  parts->bpe = bpe.get();
  parts->model = std::move(bpe);
  return {};
}

}  // namespace

Result<std::unique_ptr<TokenizerParts>> read_gguf_vocab(const GgufVocab& vocab) {
  const bool bpe = vocab.model == "gpt2";
  if (!bpe && vocab.model != "llama" && vocab.model != "bert" && vocab.model != "t5")
    return bad_input("tokenizer.ggml.model: {} found; supported are gpt2 (byte-level BPE), llama (SentencePiece), bert (WordPiece), t5 (Unigram)",
                     quoted(std::string_view(vocab.model)));
  if (bpe && !find_pre_tokenizer(vocab.pre))
    return bad_input("tokenizer.ggml.pre: {} is not a known pre-tokenizer", quoted(std::string_view(vocab.pre)));
  if (vocab.tokens.empty()) return bad_input("tokenizer.ggml.tokens: no tokens found");
  if (vocab.tokens.size() > (1u << 28))
    return bad_input("tokenizer.ggml.tokens: {} tokens are too many", vocab.tokens.size());
  if (!vocab.token_types.empty() && vocab.token_types.size() != vocab.tokens.size()) {
    return bad_input("tokenizer.ggml.token_type: {} entries found for {} tokens", vocab.token_types.size(),
                     vocab.tokens.size());
  }
  if (!vocab.scores.empty() && vocab.scores.size() != vocab.tokens.size())
    return bad_input("tokenizer.ggml.scores: {} entries found for {} tokens", vocab.scores.size(), vocab.tokens.size());
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
      return bad_input("tokenizer.ggml.tokens[{}]: {} is not UTF-8", i, quoted(std::string_view(text)));
    if (type == TokenType::kUnused && bpe) continue;  // in the others they are sought like all
    if (parts->vocabulary->add(text, id) == Vocabulary::Added::kTextTaken) {
      return bad_input("tokenizer.ggml.tokens: {} has two ids, {} and {}", quoted(std::string_view(text)),
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
  parts->add_space_prefix = vocab.add_space_prefix;
  parts->chat_template = vocab.chat_template;
  parts->chat_templates = vocab.chat_templates;
  if (bpe) INGOT_TRY(read_bpe(vocab, *parts));
  else INGOT_TRY(read_gguf_model(vocab, types, *parts));
  return parts;
}

}  // namespace ingot
