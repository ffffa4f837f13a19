// The tokens after which generation ends.
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// Those that the vocabulary has by the texts that llama.cpp takes for an end, whatever the files say.
std::vector<int32_t> ends_by_text(const TokenizerParts& parts);

// The eos_token_id of generation_config.json or config.json (a number or a list; there or in text_config), appended to parts.ends.
Status read_ends(const json::Object& file, TokenizerParts& parts);

// What a GGUF has no list for: its eos, where no file names one, is the first of parts.ends or the first by text, and its eot and eom are those that
// llama.cpp would not know by text. What is left over is told in parts.warnings.
void place_ends(TokenizerParts& parts);

// What transformers takes where config.json has no such key, there is no generation_config.json and nothing else names the tokens:
// the defaults of its model's class.
void take_class_defaults(const json::Object& config, TokenizerParts& parts);

}  // namespace ingot
