// The model of tokenizer.json: its vocabulary and what makes tokens of a piece.
#pragma once

#include <string>

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// By its type; the pre-tokenizer is read before. A new kind of model is one more row there.
Status read_model(json::Element e, TokenizerParts& parts);

Result<int32_t> read_id(json::Element e, const std::string& where);

}  // namespace ingot
