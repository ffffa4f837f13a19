#include "formats/json.h"

#include <unordered_set>
#include <vector>

namespace ingot {
namespace {

constexpr size_t kMaxDepth = 64;

// Builds a document and stops at the first thing that a careful reader would not accept.
template <class J>
class StrictHandler {
 public:
  using number_integer_t = typename J::number_integer_t;
  using number_unsigned_t = typename J::number_unsigned_t;
  using number_float_t = typename J::number_float_t;
  using string_t = typename J::string_t;
  using binary_t = typename J::binary_t;

  bool null() { return value(nullptr); }
  bool boolean(bool v) { return value(v); }
  bool number_integer(number_integer_t v) { return value(v); }
  bool number_unsigned(number_unsigned_t v) { return value(v); }
  bool number_float(number_float_t v, const string_t&) { return value(v); }
  bool string(string_t& v) { return value(std::move(v)); }
  bool binary(binary_t&) { return fail("binary data"); }
  bool start_object(size_t) { return push(J::object()); }
  bool start_array(size_t) { return push(J::array()); }
  bool end_object() { return pop(); }
  bool end_array() { return pop(); }
  bool key(string_t& k) {
    if (!keys_.back().insert(k).second) return fail("the key '" + k + "' stands twice");
    key_ = std::move(k);
    return true;
  }
  bool parse_error(size_t at, const std::string& token, const nlohmann::detail::exception&) {
    return fail(fmt::format("not valid JSON at byte {} near '{}'", at, token.substr(0, 40)));
  }

  J root;
  std::string error;

 private:
  template <class V>
  bool value(V&& v) {
    insert(J(std::forward<V>(v)));
    return true;
  }
  J* insert(J v) {
    if (stack_.empty()) {
      root = std::move(v);
      return &root;
    }
    J& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    auto& object = *parent.template get_ptr<typename J::object_t*>();
    // The key is new. A document that keeps its order would look through all its keys first.
    if constexpr (std::is_same_v<J, OrderedJson>) {
      object.push_back({std::move(key_), std::move(v)});
      return &object.back().second;
    } else {
      return &object.emplace(std::move(key_), std::move(v)).first->second;
    }
  }
  bool push(J v) {
    if (stack_.size() >= kMaxDepth) return fail(fmt::format("nested deeper than {} levels", kMaxDepth));
    stack_.push_back(insert(std::move(v)));
    keys_.emplace_back();
    return true;
  }
  bool pop() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }
  bool fail(std::string why) {
    if (error.empty()) error = std::move(why);
    return false;
  }
  std::vector<J*> stack_;
  std::vector<std::unordered_set<string_t>> keys_;  // of the objects on the stack
  string_t key_;
};

template <class J>
Result<J> parse(std::string_view text, const std::string& what) {
  StrictHandler<J> h;
  if (!J::sax_parse(text.begin(), text.end(), &h) || !h.error.empty())
    return bad_input("{}: {}; the file is damaged, copy it again", what,
                     h.error.empty() ? std::string("not valid JSON") : h.error);
  return std::move(h.root);
}

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& what) { return parse<Json>(text, what); }
Result<OrderedJson> parse_json_ordered(std::string_view text, const std::string& what) {
  return parse<OrderedJson>(text, what);
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
  if (!m || !m->is_number()) return std::nullopt;
  return m->get<double>();
}

std::optional<bool> json_bool(const Json& j, std::string_view key) {
  const Json* m = json_member(j, key);
  if (!m || !m->is_boolean()) return std::nullopt;
  return m->get<bool>();
}

std::string json_brief(const Json& j) {
  std::string s = j.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (s.size() > 120) {
    s.resize(117);
    while (!s.empty() && (static_cast<unsigned char>(s.back()) & 0xC0) == 0x80) s.pop_back();
    s += "...";
  }
  return s;
}

std::string json_quote(std::string_view s) {
  std::string out = "\"";
  for (char c : s) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        else
          out += c;
    }
  }
  return out + "\"";
}

}  // namespace ingot
