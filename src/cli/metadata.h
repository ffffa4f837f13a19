// Metadata values and the tokenizer's summary, for people and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tensor/artifact.h"

namespace ingot::cli {

// At most `width` columns.
std::string meta_text(const MetaValue& value, int width);
// Arrays of more than `limit` values become {"count": n, "first": [...]}.
nlohmann::ordered_json meta_json(const MetaValue& value, size_t limit);

// Kind, number of tokens, pre-tokenizer, special tokens, from headers and side files alone; empty or null if
// none.
std::string tokenizer_text(const Artifact& artifact);
nlohmann::ordered_json tokenizer_json(const Artifact& artifact);

}  // namespace ingot::cli
