// Reading JSON that may be hostile: of a repeated key the last value counts, types are checked, every error names its
// place. Over simdjson's DOM; for the tokenizer's files. What simdjson cannot hold (json.h: odd values) is an object with
// one member, kOddMark: told as what stands in the file, wrong wherever a value is read.
#pragma once

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "formats/json.h"
#include "formats/placeholder.h"
#include "tokenizer/text.h"

namespace ingot::json {

using Element = simdjson::dom::element;

inline const char* type_name(Element e) {
  switch (e.type()) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::INT64:
    case simdjson::dom::element_type::UINT64:
    case simdjson::dom::element_type::DOUBLE:
      return "a number";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
  }
  return "something";
}

inline std::optional<std::string_view> odd_text(Element e) {
  simdjson::dom::object o;
  std::string_view text;
  if (e.get(o) || o.size() != 1 || (*o.begin()).key != kOddMark || (*o.begin()).value.get(text)) return std::nullopt;
  return text;
}

// A number, whether a machine's type holds it or not. A reader that passes over other wrong types does not pass over these.
inline bool is_any_number(Element e) {
  if (e.is_number()) return true;
  const auto odd = odd_text(e);
  return odd && !odd->starts_with('"');
}

inline Error wrong_type(const std::string& where, Element found, const char* expected) {
  std::string text = type_name(found);
  if (const auto odd = odd_text(found)) text = std::string(odd->substr(0, 100));
  else if (found.is_number()) text = simdjson::minify(found);
  return bad_input("{}: {} found, expected {}", where, text, expected);
}

// A file's JSON, whose values point into the parser; `behind` bytes of memory after it may be read.
inline Result<Element> parse(simdjson::dom::parser& parser, std::string_view text, const char* name, size_t behind = 0) {
  constexpr size_t kMost = size_t{2} << 30;
  if (text.size() > kMost) return bad_input("{}: {} bytes found; at most {} are accepted", name, text.size(), kMost);
  Element root;
  if (!parser.parse(text.data(), text.size(), behind < simdjson::SIMDJSON_PADDING).get(root)) return root;
  if (const auto what = placeholder(text); !what.empty()) return bad_input("{}: it {}", name, what);
  // Not strict JSON: what Python reads all the same (model_max_length of 10^30, NaN) is read, else this says where and why.
  INGOT_ASSIGN(const std::string strict, strict_json(text, name));
  if (const auto error = parser.parse(strict).get(root)) return bad_input("{}: not valid JSON: {}", name, simdjson::error_message(error));
  return root;
}

// A small object. Getters for keys that are absent or null give nothing.
class Object {
 public:
  static Result<Object> read(Element e, std::string where) {
    simdjson::dom::object o;
    if (e.get(o) || odd_text(e)) return wrong_type(where, e, "an object");
    Object out;
    out.where_ = std::move(where);
    out.members_ = o;
    for (const auto field : o) out.fields_.emplace_back(field.key, field.value);
    std::stable_sort(out.fields_.begin(), out.fields_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    return out;
  }
  // In the file's order, repeated keys and nulls included.
  simdjson::dom::object members() const { return members_; }
  const std::string& where() const { return where_; }
  std::string where(std::string_view key) const {
    return where_.empty() ? std::string(key) : where_ + "." + std::string(key);
  }
  // The object that a file is: its fields are named without a prefix.
  Object&& as_root() && {
    where_.clear();
    return std::move(*this);
  }

  std::optional<Element> get(std::string_view key) const {
    auto it = std::upper_bound(fields_.begin(), fields_.end(), key,
                               [](std::string_view k, const auto& f) { return k < f.first; });
    if (it == fields_.begin() || (--it)->first != key || it->second.is_null()) return std::nullopt;
    return it->second;  // the last of a repeated key
  }
  bool is_null(std::string_view key) const {
    return std::any_of(fields_.begin(), fields_.end(), [&](const auto& f) { return f.first == key && f.second.is_null(); });
  }
  Result<std::optional<bool>> boolean(std::string_view key) const {
    const auto e = get(key);
    if (!e) return std::optional<bool>();
    bool v = false;
    if (e->get(v)) return wrong_type(where(key), *e, "true or false");
    return std::optional<bool>(v);
  }
  Result<bool> boolean(std::string_view key, bool otherwise) const {
    INGOT_ASSIGN(const std::optional<bool> v, boolean(key));
    return v.value_or(otherwise);
  }
  Result<std::optional<std::string_view>> string(std::string_view key) const {
    const auto e = get(key);
    if (!e) return std::optional<std::string_view>();
    std::string_view v;
    if (e->get(v)) return wrong_type(where(key), *e, "a string");
    return std::optional<std::string_view>(v);
  }
  Result<std::string_view> needed_string(std::string_view key) const {
    INGOT_ASSIGN(const std::optional<std::string_view> v, string(key));
    if (!v) return bad_input("{}: missing", where(key));
    return *v;
  }
  // An array; empty when absent.
  Result<std::vector<Element>> array(std::string_view key) const {
    std::vector<Element> out;
    const auto e = get(key);
    if (!e) return out;
    simdjson::dom::array a;
    if (e->get(a)) return wrong_type(where(key), *e, "an array");
    for (const Element x : a) out.push_back(x);
    return out;
  }

 private:
  std::string where_;
  simdjson::dom::object members_;
  std::vector<std::pair<std::string_view, Element>> fields_;
};

}  // namespace ingot::json
