// tekken.json of mistral-common: a byte-level BPE by ranks of tokens, as transformers makes a tokenizer of it (its MistralConverter).
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"
#include "tokenizer/side_tokens.h"

namespace ingot {

// Whether a file that is given for tokenizer.json is one of these.
bool is_tekken(const json::Object& root);
// Its special tokens go to `own`.
Status read_tekken(const json::Object& root, TokenizerParts& parts, std::vector<ClaimedToken>* own);
// BOS before a text, as mistral-common and the reference converter have it, unless tokenizer_config.json (null: missing) says no.
Status name_tekken(const json::Object* tokenizer_config, NamedTokens* named, TokenizerParts& parts);

}  // namespace ingot
