// The models of GGUF that are no byte-level BPE, as llama.cpp encodes with them: "llama" (SentencePiece's BPE), "bert" (WordPiece),
// "t5" (Unigram).
#pragma once

#include <string_view>
#include <vector>

#include "tokenizer/parts.h"

namespace ingot {

// To be called when parts has tokens, added tokens and special ids. `types` are those of the tokens once llama.cpp has loaded them.
Status read_gguf_model(const GgufVocab& vocab, const std::vector<TokenType>& types, TokenizerParts& parts);

// The kind of model under which GGUF can hold this tokenizer; empty: none.
std::string_view gguf_model_of(const TokenizerParts& parts);
// Whether a mark is put before a text, or before each text between added tokens.
bool puts_space_before(const TokenizerParts& parts);

}  // namespace ingot
