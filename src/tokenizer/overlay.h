// What the reference converter lays over the tokens of tokenizer.model when it writes GGUF, and its words for special tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// added_tokens.json, then added_tokens_decoder of tokenizer_config.json; for Phi-3 the added tokens of tokenizer.json, too. Any file may be
// missing (null).
Result<std::vector<OverlaidToken>> read_overlay(const json::Object* added_tokens, const json::Object* tokenizer_config,
                                                const json::Object* tokenizer, const json::Object* config);

// Added tokens that some models do not mark as special though they are; the converter's list.
bool looks_special(std::string_view text);
// A token that is not special, as GGUF has it: with spaces for the marks.
std::string with_spaces(std::string_view text);

}  // namespace ingot
