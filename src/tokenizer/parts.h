// What the readers (json.cc, gguf.cc) gather before a Tokenizer is built.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

// Special tokens by role, as tokenizer_config.json, config.json or GGUF name them.
struct SpecialIds {
  std::optional<int32_t> bos, eos, unk, sep, pad, mask, eot, eom;
  std::optional<bool> add_bos, add_eos, add_sep;
  std::optional<int32_t> fim_pad, fim_rep, fim_sep;  // GGUF's: they end generation in llama.cpp
};

struct TokenizerParts {
  std::shared_ptr<Vocabulary> vocabulary = std::make_shared<Vocabulary>();
  std::vector<AddedToken> added;
  bool longest_first = false;  // added tokens are sought as llama.cpp does
  bool split_special = false;  // special tokens that stand in a text are text (split_special_tokens)
  size_t own_end = SIZE_MAX;  // from here on are tokens that only other files than tokenizer.json name
  std::vector<NormalizerRule> normalizer;
  PreTokenizerRules pre_tokenizer;
  std::vector<int32_t> prefix, suffix;  // what the post-processor adds around one sequence
  std::vector<DecoderRule> decoder;
  std::shared_ptr<const TokenModel> model;
  // BPE, for writing it elsewhere; empty for other models.
  const Bpe* bpe = nullptr;
  std::vector<BpeMerge> merges;

  SpecialIds special;
  SpecialIds config_ids;  // those of config.json, for roles whose token has no row
  std::optional<bool> add_space_prefix;
  std::optional<std::string> chat_template;
  std::vector<std::pair<std::string, std::string>> chat_templates;  // others, by name
  std::vector<int32_t> ends;           // eos_token_id of generation_config.json and config.json
  std::vector<std::string> warnings;
  std::string pre_name;  // from GGUF or overridden; empty: to be found from the rules
};

Result<std::unique_ptr<TokenizerParts>> read_hf_tokenizer(const HfTokenizerFiles& files);
Result<std::unique_ptr<TokenizerParts>> read_gguf_vocab(const GgufVocab& vocab);
Result<GgufVocab> write_gguf_vocab(const TokenizerParts& parts, const std::string& pre, size_t n_vocab);

// Ids above this bound are refused before a table grows to them: padding may leave holes, but not most of the
// table.
inline int64_t id_bound(size_t tokens) { return 2 * static_cast<int64_t>(tokens) + 65536; }

}  // namespace ingot
