// Added tokens as the tokenizers library adds them, and those that the files beside tokenizer.json name, as transformers 5 has
// them added (its TokenizersBackend): added_tokens_decoder and the special tokens of tokenizer_config.json,
// special_tokens_map.json, added_tokens.json.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// A token as a file gives it, with its id there; -1 where it gives none.
struct ClaimedToken {
  AddedToken token;
  std::string_view file = {};         // empty: its id is no news
  bool normalized_unless_special = false;  // the file does not say whether it is normalized
};
// A token that is there keeps its id and takes the new flags, a new one gets the next id. Where that is not the id that the file
// gives it, parts.warnings says so.
Status add_tokens(const std::vector<ClaimedToken>& tokens, TokenizerParts& parts);

// tokenizer_config.json has a list of the added tokens: the files of older versions, special_tokens_map.json and added_tokens.json, are
// not opened then.
bool has_token_list(const json::Object* tokenizer_config);

// The special tokens by the names that the files give them ("eos_token"), as texts.
using NamedTokens = std::map<std::string, std::string, std::less<>>;
// To be called when parts has the tokens of tokenizer.json, which are `own` in that file. Absent files are null.
Result<NamedTokens> add_side_tokens(const json::Object& tokenizer, const std::vector<ClaimedToken>& own,
                                    const json::Object* tokenizer_config, const json::Object* special_tokens_map,
                                    const json::Object* added_tokens, TokenizerParts& parts);

}  // namespace ingot
