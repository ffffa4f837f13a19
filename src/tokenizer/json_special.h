// Special tokens by role, as the reference converter finds them (gguf-py, SpecialVocab): from the post-processor of tokenizer.json,
// the tokens that the tokenizer's files name, and config.json.
#pragma once

#include "tokenizer/json_rules.h"
#include "tokenizer/side_tokens.h"

namespace ingot {

// Either file may be missing (null).
Status read_special_tokens(const std::vector<json::Object>& processors, const NamedTokens& named, const json::Object* tokenizer_config,
                           const json::Object* config, TokenizerParts& parts);

}  // namespace ingot
