// The JSON of models' and adapters' small files, read as Python reads it, so that nothing in a field that nobody reads
// stands in the way: see json_scan.h. Nothing throws. The safetensors header has its own strict reader.
//
// A value that JSON's types cannot hold (a number beyond 64 bits or a double, NaN, Infinity, a text with half of a
// surrogate pair) is *odd*: kept as it stands in the file, neither a number nor a text to its readers, which refuse it as
// they refuse any other wrong type, and written again as it stood.
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

// As Python's json.loads: of a repeated key the last value counts; a byte order mark passes, too. `what` names the file in
// messages: "/models/a/config.json".
Result<Json> parse_json(std::string_view text, const std::string& what);
Result<OrderedJson> parse_json_ordered(std::string_view text, const std::string& what);
// For our own data: a repeated key or an odd value is an error.
Result<Json> parse_strict_json(std::string_view text, const std::string& what);
// The same document for a strict parser. An odd value becomes {kOddMark: what stands in the file}, an odd key kOddMark and
// that. Repeated keys are left to the reader.
Result<std::string> strict_json(std::string_view text, const std::string& what);
inline constexpr std::string_view kOddMark{"\0no strict JSON: ", 17};

// The member, or nullptr if j is no object, has none of that name or has null there.
const Json* json_member(const Json& j, std::string_view key);
// The member if it has the wanted kind.
std::optional<std::string> json_string(const Json& j, std::string_view key);
std::optional<int64_t> json_int(const Json& j, std::string_view key);
std::optional<double> json_number(const Json& j, std::string_view key);
std::optional<bool> json_bool(const Json& j, std::string_view key);
// The value as a finite double, if it is one; also of an integer beyond 64 bits.
std::optional<double> finite_number(const Json& j);
// What stands in the file, if the value is odd.
std::optional<std::string> json_odd(const Json& j);
std::optional<std::string> json_odd(const OrderedJson& j);

// The text of a file, as Python's json.dump(indent=2) writes it, with a newline.
std::string json_text(const OrderedJson& j);
// The same on one line, without a newline.
std::string json_line(const OrderedJson& j);
// Odd values made into plain texts: for output that others' strict parsers read.
OrderedJson json_shown(OrderedJson j);
// A value as text for a message, cut to a readable length; never throws on broken UTF-8.
std::string json_brief(const Json& j);

// A string literal of JSON, escaped as serde_json does (control characters, quote and backslash only).
std::string json_quote(std::string_view s);

// A number as Python's json writes it: the shortest that reads back as the same, 1.0, 1e-08, NaN, -Infinity.
std::string json_double(double d);

}  // namespace ingot
