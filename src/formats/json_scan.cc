#include "formats/json_scan.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>

namespace ingot {
namespace {

constexpr size_t kMaxDepth = 900;  // Python gives up between 900 and 1000

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(uint32_t c, std::string* out) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

// Whether a decimal number that no double holds is too small (a zero) and not too large: the place of its first digit
// that is not zero, moved by its exponent.
bool is_tiny(std::string_view number) {
  const auto e = number.find_first_of("eE");
  const std::string_view digits = number.substr(0, e);
  int64_t exponent = 0;
  if (e != std::string_view::npos) {
    std::string_view rest = number.substr(e + 1);
    const bool negative = rest[0] == '-';
    if (rest[0] == '-' || rest[0] == '+') rest.remove_prefix(1);
    for (char c : rest) exponent = std::min<int64_t>(exponent * 10 + (c - '0'), int64_t{1} << 40);
    if (negative) exponent = -exponent;
  }
  const auto dot = std::min(digits.find('.'), digits.size());
  const auto first = std::min(digits.find_first_of("123456789"), digits.size());
  return static_cast<int64_t>(dot) - static_cast<int64_t>(first) + exponent < 0;
}

class Scanner {
 public:
  Scanner(std::string_view text, JsonEvents& events) : s_(text), events_(events) {}

  std::string run() {
    if (s_.starts_with("\xFF\xFE") || s_.starts_with("\xFE\xFF")) return "not valid JSON: it is UTF-16 text, expected UTF-8";
    if (!simdjson::validate_utf8(s_.data(), s_.size())) return "not valid JSON: it is no UTF-8 text";
    if (s_.starts_with("\xEF\xBB\xBF")) at_ = 3;
    bool value_next = true;
    do {
      if (!(value_next ? value(&value_next) : after_value(&value_next))) return std::move(error_);
    } while (value_next || !open_.empty());
    space();
    if (at_ < s_.size()) fail("something follows the end");
    return std::move(error_);
  }

 private:
  bool fail(std::string_view why) {
    size_t n = std::min<size_t>(20, s_.size() - at_);
    while (at_ + n < s_.size() && (static_cast<unsigned char>(s_[at_ + n]) & 0xC0) == 0x80) --n;  // no character is cut
    const auto line = 1 + std::count(s_.begin(), s_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    const std::string where = s_.find('\n') < s_.size() ? fmt::format(" (line {})", line) : "";
    error_ = n ? fmt::format("not valid JSON at byte {}{} near '{}': {}", at_ + 1, where, s_.substr(at_, n), why)
               : fmt::format("not valid JSON: it ends after {} bytes: {}", s_.size(), why);
    return false;
  }
  void space() {
    while (at_ < s_.size() && (s_[at_] == ' ' || s_[at_] == '\n' || s_[at_] == '\t' || s_[at_] == '\r')) ++at_;
  }
  char peek() const { return at_ < s_.size() ? s_[at_] : '\0'; }
  bool take(std::string_view word) {
    if (s_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  bool open(bool object) {
    if (open_.size() >= kMaxDepth) return fail(fmt::format("nested deeper than {} levels", kMaxDepth));
    open_.push_back(object ? '}' : ']');
    events_.begin(object);
    ++at_;
    return true;
  }
  bool close() {
    const char c = peek();
    if (open_.empty() || c != open_.back()) return false;
    ++at_;
    open_.pop_back();
    events_.end(c == '}');
    return true;
  }

  bool value(bool* value_next) {
    space();
    *value_next = false;
    const char c = peek();
    if (c == '{' || c == '[') {
      if (!open(c == '{')) return false;
      space();
      if (close()) return true;
      *value_next = true;
      return c == '[' || key();
    }
    if (c == '"') {
      JsonString v;
      if (!string(&v)) return false;
      events_.string(std::move(v));
      return true;
    }
    if (take("null")) {
      events_.null();
    } else if (take("true")) {
      events_.boolean(true);
    } else if (take("false")) {
      events_.boolean(false);
    } else {
      return number();
    }
    return true;
  }

  bool after_value(bool* value_next) {
    space();
    if (close()) return true;
    if (peek() != ',') return fail(open_.back() == '}' ? "expected a comma or }" : "expected a comma or ]");
    ++at_;
    *value_next = true;
    return open_.back() == ']' || key();
  }

  bool key() {
    space();
    if (peek() != '"') return fail("expected a key in double quotes");
    JsonString k;
    if (!string(&k)) return false;
    events_.key(std::move(k));
    space();
    if (peek() != ':') return fail("expected a colon");
    ++at_;
    return true;
  }

  bool number() {
    const size_t start = at_;
    const auto digits = [&] {
      while (is_digit(peek())) ++at_;
    };
    JsonNumber n;
    if (take("NaN") || take("Infinity") || take("-Infinity")) {
      n.text = s_.substr(start, at_ - start);
      events_.number(n);
      return true;
    }
    if (peek() == '-') ++at_;
    if (!is_digit(peek())) {
      at_ = start;
      return fail("expected a value");
    }
    if (peek() == '0') ++at_;
    else digits();
    bool real = false;
    if (peek() == '.' && at_ + 1 < s_.size() && is_digit(s_[at_ + 1])) {
      real = true;
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      const size_t sign = at_ + 1 < s_.size() && (s_[at_ + 1] == '-' || s_[at_ + 1] == '+') ? 1 : 0;
      if (at_ + 1 + sign < s_.size() && is_digit(s_[at_ + 1 + sign])) {
        real = true;
        at_ += 1 + sign;
        digits();
      }
    }
    n.text = s_.substr(start, at_ - start);
    const char *begin = n.text.data(), *end = begin + n.text.size();
    if (real) {
      if (std::from_chars(begin, end, n.real).ec == std::errc()) {
        n.kind = JsonNumber::Kind::kReal;
      } else if (is_tiny(n.text)) {
        n.kind = JsonNumber::Kind::kReal;
        n.real = *begin == '-' ? -0.0 : 0.0;
      }
    } else if (std::from_chars(begin, end, n.integer).ec == std::errc()) {
      n.kind = JsonNumber::Kind::kInteger;
    } else if (*begin != '-' && std::from_chars(begin, end, n.natural).ec == std::errc()) {
      n.kind = JsonNumber::Kind::kUnsigned;
    }
    events_.number(n);
    return true;
  }

  bool string(JsonString* out) {
    const size_t start = at_++;
    for (;;) {
      const size_t from = at_;
      while (at_ < s_.size() && s_[at_] != '"' && s_[at_] != '\\' && static_cast<unsigned char>(s_[at_]) >= 0x20) ++at_;
      out->value.append(s_, from, at_ - from);
      if (at_ >= s_.size()) return fail("a text has no end");
      if (s_[at_] == '"') break;
      if (s_[at_] != '\\') return fail("a control character in a text");
      if (!escape(out)) return false;
    }
    ++at_;
    out->text = s_.substr(start, at_ - start);
    return true;
  }

  bool escape(JsonString* out) {
    static constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char c = at_ + 1 < s_.size() ? s_[at_ + 1] : '\0';
    if (const auto i = kNames.find(c); c && i != std::string_view::npos) {
      out->value.push_back(kMeanings[i]);
      at_ += 2;
      return true;
    }
    uint32_t unit = 0, low = 0;
    if (!unicode_escape(at_, &unit)) return fail("not an escape");
    at_ += 6;
    if (unit >= 0xD800 && unit < 0xDC00 && unicode_escape(at_, &low) && low >= 0xDC00 && low < 0xE000) {
      at_ += 6;
      unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    } else if (unit >= 0xD800 && unit < 0xE000) {
      out->odd = true;
    }
    append_utf8(unit, &out->value);
    return true;
  }
  bool unicode_escape(size_t at, uint32_t* unit) const {
    if (s_.substr(at, 2) != "\\u" || at + 6 > s_.size()) return false;
    const char* begin = s_.data() + at + 2;
    return std::from_chars(begin, begin + 4, *unit, 16).ptr == begin + 4;
  }

  std::string_view s_;
  JsonEvents& events_;
  size_t at_ = 0;
  std::string open_;  // what closes each object and array
  std::string error_;
};

}  // namespace

std::string scan_json(std::string_view text, JsonEvents& events) { return Scanner(text, events).run(); }

}  // namespace ingot
