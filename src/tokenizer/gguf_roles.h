// Which tokens a GGUF file names, by their roles.
#pragma once

#include "tokenizer/parts.h"

namespace ingot {

// Into `out`, which has the tokens: a row without a token is named by no role, and a role whose token has no row (its text is in
// other files than tokenizer.json, the embedding was not resized) gets the token that stands next to it. Adds to out->warnings.
void place_roles(const TokenizerParts& parts, GgufVocab* out);

}  // namespace ingot
