// A tokenizer of tokenizer.model alone, as transformers 5 makes it: its LlamaTokenizer and GemmaTokenizer, which have rules of their
// own, and its TokenizersBackend for all others, which goes by what the file says.
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/side_tokens.h"

namespace ingot {

class SentencePieceDirectory {
 public:
  // Either file may be missing (null).
  SentencePieceDirectory(const SentencePieceModel& model, const json::Object* tokenizer_config, const json::Object* config)
      : model_(model), tokenizer_config_(tokenizer_config), config_(config) {}

  // Model, normalizer, pre-tokenizer and decoder; the pieces that are added tokens go to `own`.
  Status read(TokenizerParts& parts, std::vector<ClaimedToken>* own);
  // The special tokens that no file names, as the class has them.
  Status name_defaults(NamedTokens* named, TokenizerParts& parts) const;
  // BOS and EOS around a text, where tokenizer_config.json asks for them.
  Status add_around(const NamedTokens& named, TokenizerParts& parts);
  // Where it does not say, nothing is known of them: transformers adds none, and GGUF, too, says nothing.
  void leave_unsaid(SpecialIds* ids) const;

 private:
  enum class Class { kFile, kLlama, kGemma };
  Result<Class> find_class(std::vector<std::string>* warnings) const;
  Status read_vocabulary(TokenizerParts& parts);
  std::vector<BpeMerge> merges_by_id(const Vocabulary& vocabulary) const;
  std::vector<BpeMerge> merges_by_score(const Vocabulary& vocabulary) const;
  Status make_model(TokenizerParts& parts) const;
  Status make_rules(TokenizerParts& parts) const;
  std::vector<std::string> user_defined(const TokenizerParts& parts) const;

  const SentencePieceModel& model_;
  const json::Object *tokenizer_config_, *config_;
  Class class_ = Class::kFile;
  bool bos_said_ = false, eos_said_ = false;
};

}  // namespace ingot
