// Special tokens by role, as the reference converter finds them (gguf-py, SpecialVocab), and the chat template: from the
// post-processor of tokenizer.json, tokenizer_config.json and config.json.
#pragma once

#include "tokenizer/json_rules.h"

namespace ingot {

// A yes or no of tokenizer_config.json; what is neither is passed over, as the reference does, unless it is a number.
Result<std::optional<bool>> read_flag(const json::Object& o, const std::string& key);
// Either file may be missing (null).
Status read_special_tokens(const std::vector<json::Object>& processors, const json::Object* tokenizer_config,
                           const json::Object* config, TokenizerParts& parts);
Status read_chat_template(const json::Object* tokenizer_config, std::string_view jinja, TokenizerParts& parts);

}  // namespace ingot
