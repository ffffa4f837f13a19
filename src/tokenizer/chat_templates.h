// The chat templates of a directory, as transformers 5 takes them.
#pragma once

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// Files that are not there, or not read, are null.
Status read_chat_templates(const json::Object* tokenizer_config, const json::Object* special_tokens_map, const json::Object* chat_template_json,
                           const HfTokenizerFiles& files, TokenizerParts& parts);

}  // namespace ingot
