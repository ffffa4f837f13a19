// Reading JSON that may be hostile: objects with duplicate keys refused, types checked, every error names its
// place. Over simdjson's DOM; for the tokenizer's files.
#pragma once

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/tokenizer_text.h"

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

inline Error wrong_type(const std::string& where, Element found, const char* expected) {
  return bad_input("{}: {} found, expected {}", where, type_name(found), expected);
}

// A small object, its keys checked to be unique. Getters for keys that are absent or null give nothing.
class Object {
 public:
  static Result<Object> read(Element e, std::string where) {
    simdjson::dom::object o;
    if (e.get(o)) return wrong_type(where, e, "an object");
    Object out;
    out.where_ = std::move(where);
    for (const auto field : o) out.fields_.emplace_back(field.key, field.value);
    std::sort(out.fields_.begin(), out.fields_.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 1; i < out.fields_.size(); ++i) {
      if (out.fields_[i].first == out.fields_[i - 1].first) {
        return bad_input("{}: the key {} appears twice", out.where_, quoted(out.fields_[i].first));
      }
    }
    return out;
  }
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
    const auto it = std::lower_bound(fields_.begin(), fields_.end(), key,
                                     [](const auto& f, std::string_view k) { return f.first < k; });
    if (it == fields_.end() || it->first != key || it->second.is_null()) return std::nullopt;
    return it->second;
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
  std::vector<std::pair<std::string_view, Element>> fields_;
};

}  // namespace ingot::json
