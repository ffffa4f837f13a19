#include "formats/json.h"

#include <charconv>
#include <cmath>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "formats/json_scan.h"
#include "formats/placeholder.h"

namespace ingot {
namespace {

// Builds a document. An odd value is kept as binary data, which no JSON text gives.
template <class J>
class Builder : public JsonEvents {
 public:
  explicit Builder(bool strict) : strict_(strict) {}

  void null() override { put(nullptr); }
  void boolean(bool v) override { put(v); }
  void number(const JsonNumber& v) override {
    switch (v.kind) {
      case JsonNumber::Kind::kInteger: put(v.integer); break;
      case JsonNumber::Kind::kUnsigned: put(v.natural); break;
      case JsonNumber::Kind::kReal: put(v.real); break;
      case JsonNumber::Kind::kOdd: odd(v.text); break;
    }
  }
  void string(JsonString v) override {
    if (v.odd) odd(v.text);
    else put(std::move(v.value));
  }
  void key(JsonString v) override {
    if (strict_ && v.odd) refuse("the key", v.text, "is no text");
    key_ = std::move(v.value);
  }
  void begin(bool object) override { open_.push_back({put(object ? J::object() : J::array()), {}}); }
  void end(bool) override { open_.pop_back(); }

  J root;
  std::string error;  // of a strict reader

 private:
  struct Open {
    J* node;
    std::unordered_map<std::string, size_t> places;  // of the keys, where a look-up in order would be slow
  };
  void odd(std::string_view text) {
    if (strict_) refuse("the value", text, "is outside what JSON can hold");
    put(J::binary(typename J::binary_t::container_type(text.begin(), text.end())));
  }
  void refuse(std::string_view what, std::string_view text, std::string_view why) {
    if (error.empty()) error = fmt::format("{} '{}' {}", what, text.substr(0, 100), why);
  }
  J* put(J v) {
    if (open_.empty()) {
      root = std::move(v);
      return &root;
    }
    Open& parent = open_.back();
    if (parent.node->is_array()) {
      parent.node->push_back(std::move(v));
      return &parent.node->back();
    }
    auto& members = *parent.node->template get_ptr<typename J::object_t*>();
    if constexpr (std::is_same_v<J, OrderedJson>) {
      const auto [place, fresh] = parent.places.emplace(key_, members.size());
      if (!fresh) {
        if (strict_) refuse("the key", key_, "stands twice");
        J& slot = (members.begin() + static_cast<std::ptrdiff_t>(place->second))->second;
        slot = std::move(v);
        return &slot;
      }
      members.emplace_back(key_, std::move(v));
      return &members.back().second;
    } else {
      if (strict_ && members.count(key_)) refuse("the key", key_, "stands twice");
      J& slot = members[key_];
      slot = std::move(v);
      return &slot;
    }
  }

  const bool strict_;
  std::vector<Open> open_;
  std::string key_;
};

Error damaged(const std::string& what, std::string_view text, const std::string& error) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return bad_input("{}: {}; the file is empty, copy or download it again", what, error);
  if (const auto other = placeholder(text); !other.empty()) return bad_input("{}: it {}", what, other);
  return bad_input("{}: {}; mend the file or copy it again", what, error);
}

template <class J>
Result<J> parse(std::string_view text, const std::string& what, bool strict = false) {
  Builder<J> builder(strict);
  const std::string error = scan_json(text, builder);
  if (!error.empty()) return damaged(what, text, error);
  if (!builder.error.empty()) return damaged(what, text, builder.error);
  return std::move(builder.root);
}

// Writes what it is told as strict JSON.
class Rewriter : public JsonEvents {
 public:
  void null() override { value("null"); }
  void boolean(bool v) override { value(v ? "true" : "false"); }
  void number(const JsonNumber& v) override { v.kind == JsonNumber::Kind::kOdd ? odd(v.text) : value(v.text); }
  void string(JsonString v) override { v.odd ? odd(v.text) : value(v.text); }
  void key(JsonString v) override {
    comma();
    out += v.odd ? json_quote(fmt::format("{}{}", kOddMark, v.text)) : std::string(v.text);
    out += ':';
    first_ = true;
  }
  void begin(bool object) override {
    value(object ? "{" : "[");
    first_ = true;
  }
  void end(bool object) override {
    out += object ? '}' : ']';
    first_ = false;
  }

  std::string out;

 private:
  void comma() {
    if (!first_) out += ',';
    first_ = false;
  }
  void value(std::string_view text) {
    comma();
    out += text;
  }
  void odd(std::string_view text) { value(fmt::format("{{{}:{}}}", json_quote(kOddMark), json_quote(text))); }
  bool first_ = true;
};

template <class J>
std::optional<std::string> odd_text(const J& j) {
  if (!j.is_binary()) return std::nullopt;
  const auto& bytes = *j.template get_ptr<const typename J::binary_t*>();
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& what) { return parse<Json>(text, what); }
Result<OrderedJson> parse_json_ordered(std::string_view text, const std::string& what) {
  return parse<OrderedJson>(text, what);
}
Result<Json> parse_strict_json(std::string_view text, const std::string& what) { return parse<Json>(text, what, true); }

Result<std::string> strict_json(std::string_view text, const std::string& what) {
  Rewriter rewriter;
  rewriter.out.reserve(text.size());
  const std::string error = scan_json(text, rewriter);
  if (!error.empty()) return damaged(what, text, error);
  return std::move(rewriter.out);
}

const Json* json_member(const Json& j, std::string_view key) {
  if (!j.is_object()) return nullptr;
  auto it = j.find(std::string(key));
  return it == j.end() || it->is_null() ? nullptr : &*it;
}

std::optional<std::string> json_string(const Json& j, std::string_view key) {
  const Json* m = json_member(j, key);
  if (!m || !m->is_string()) return std::nullopt;
  return *m->get_ptr<const std::string*>();
}

std::optional<int64_t> json_int(const Json& j, std::string_view key) {
  const Json* m = json_member(j, key);
  if (!m || !m->is_number_integer()) return std::nullopt;
  if (m->is_number_unsigned() && *m->get_ptr<const uint64_t*>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return m->get<int64_t>();
}

std::optional<double> json_number(const Json& j, std::string_view key) {
  const Json* m = json_member(j, key);
  return m ? finite_number(*m) : std::nullopt;
}

std::optional<bool> json_bool(const Json& j, std::string_view key) {
  const Json* m = json_member(j, key);
  if (!m || !m->is_boolean()) return std::nullopt;
  return m->get<bool>();
}

std::optional<double> finite_number(const Json& j) {
  if (j.is_number()) return j.get<double>();
  const auto text = json_odd(j);
  double v = 0;
  // A number starts with neither a quote nor a letter; NaN and Infinity do, behind a sign as well.
  if (!text || text->find_first_not_of("-0123456789") != std::string::npos) return std::nullopt;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), v);
  return error == std::errc() && std::isfinite(v) ? std::optional<double>(v) : std::nullopt;
}

std::optional<std::string> json_odd(const Json& j) { return odd_text(j); }
std::optional<std::string> json_odd(const OrderedJson& j) { return odd_text(j); }

}  // namespace ingot
