// The normalizer, pre_tokenizer and decoder objects of tokenizer.json, as rules.
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// Each appends to the list of `parts`. Types that are not supported are refused by name.
Status read_normalizer(json::Element e, TokenizerParts& parts, int depth = 0);
Status read_pre_tokenizer(json::Element e, TokenizerParts& parts, int depth = 0);
Status read_decoder(json::Element e, TokenizerParts& parts, int depth = 0);

}  // namespace ingot
