// Metadata values and the tokenizer's summary, for people and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tensor/artifact.h"

namespace ingot::cli {

// [4096, 256], outermost dimension first.
nlohmann::ordered_json shape_json(const Shape& shape);

// At most `width` columns.
std::string meta_text(const MetaValue& value, int width);
// Arrays of more than `limit` values become {"count": n, "first": [...]}.
nlohmann::ordered_json meta_json(const MetaValue& value, size_t limit);

// Kind, number of tokens, rules, special tokens, chat templates and the tokens that end a text, as far as they are known; null if there is
// no tokenizer. `gguf`: the same model as GGUF, where it could be made, which says more.
nlohmann::ordered_json tokenizer_json(const Artifact& artifact, const Artifact* gguf = nullptr);
// "1 '<|end_of_text|>', 4 '<|eot_id|>'", of the member "end".
std::string end_text(const nlohmann::ordered_json& tokenizer);
// The rest, in one line.
std::string tokenizer_text(const nlohmann::ordered_json& tokenizer);

}  // namespace ingot::cli
