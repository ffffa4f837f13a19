// Which tokens a GGUF file names, by their roles.
#pragma once

#include "tokenizer/parts.h"

namespace ingot {

// Into `out`, which has the tokens: a row without a token is named by no role, and a role whose token has no row (its text is in
// other files than tokenizer.json, the embedding was not resized) gets the token that stands next to it. `bos_by_name`: llama.cpp puts
// BOS before texts under this name of the pre-tokenizer unless it is told not to. Adds to out->warnings.
void place_roles(const TokenizerParts& parts, bool bos_by_name, GgufVocab* out);

}  // namespace ingot
