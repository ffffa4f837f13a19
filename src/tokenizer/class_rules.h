// Rules for cutting text that transformers 5 takes from elsewhere than tokenizer.json: from a flag of tokenizer_config.json, and from the class that it names.
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// How the class of transformers cuts text whatever the files say; empty for one that is not known. Its name without "Fast".
PreTokenizerRules rules_of_class(std::string_view name, bool add_prefix_space);
// Of a file that may be absent, where another type than a text stands for none.
std::string_view text_of(const json::Object* file, const char* key);

// fix_mistral_regex: the rules of a Mistral model of before transformers 5 are mended, in `parts`. Another class's rules are told (parts.warnings) and not
// taken: the model was trained with those of tokenizer.json. To be called when parts has all tokens. Absent files are null.
Status read_class_rules(const json::Object& tokenizer, const json::Object* tokenizer_config, const json::Object* config, TokenizerParts& parts);

}  // namespace ingot
