// Strict parsing of untrusted JSON: a duplicate key, a nesting deeper than any real file's or bytes after the end are
// errors, and nothing throws. For small files; the safetensors header has its own streaming reader.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ingot {

using Json = nlohmann::json;                 // keys sorted
using OrderedJson = nlohmann::ordered_json;  // keys in the file's order, for files that are written again

// `what` names the file in messages: "/models/a/config.json".
Result<Json> parse_json(std::string_view text, const std::string& what);
Result<OrderedJson> parse_json_ordered(std::string_view text, const std::string& what);

// The member, or nullptr if j is no object, has none of that name or has null there.
const Json* json_member(const Json& j, std::string_view key);
// The member if it has the wanted kind.
std::optional<std::string> json_string(const Json& j, std::string_view key);
std::optional<int64_t> json_int(const Json& j, std::string_view key);
std::optional<double> json_number(const Json& j, std::string_view key);
std::optional<bool> json_bool(const Json& j, std::string_view key);
// A value as text for a message, cut to a readable length; never throws on broken UTF-8.
std::string json_brief(const Json& j);

// A string literal of JSON, escaped as serde_json does (control characters, quote and backslash only).
std::string json_quote(std::string_view s);

}  // namespace ingot
