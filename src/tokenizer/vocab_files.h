// vocab.json and merges.txt: the tokenizer of GPT-2's and Qwen2's classes where there is no tokenizer.json (files of before 2021, and what trainers wrote
// with the slow classes). Which rules go with them only the class says.
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"
#include "tokenizer/side_tokens.h"

namespace ingot {

class VocabFiles {
 public:
  // Absent files are null; the objects must outlive this. Of a class whose rules are not known an error that says what to do.
  static Result<VocabFiles> open(const json::Object* tokenizer_config, const json::Object* config);
  // Vocabulary, rules and model; no added tokens.
  Status read(std::string_view vocab_json, std::string_view merges_txt, TokenizerParts& parts) const;
  // The special tokens that the class has by itself where no file names them, or names none of the role (null).
  Status name_defaults(NamedTokens* named, TokenizerParts& parts) const;
  // The post-processor that transformers makes of add_bos_token and add_eos_token, as JSON.
  Result<std::string> post_processor(const NamedTokens& named, const TokenizerParts& parts) const;

 private:
  bool qwen_ = false;  // else GPT-2
  const json::Object* tokenizer_config_ = nullptr;
};

}  // namespace ingot
