#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <charconv>

#include "tokenizer/jinja_text.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Line ends become \n, and the last one goes.
std::string with_plain_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : s_(source) {}

  Result<std::vector<Token>> run() {
    while (at_ < s_.size()) INGOT_TRY(root());
    add(Token::kEnd);
    return std::move(tokens_);
  }

 private:
  Token& add(Token::Type type, std::string text = {}) {
    Token t;
    t.type = type;
    t.line = line_;
    t.text = std::move(text);
    tokens_.push_back(std::move(t));
    return tokens_.back();
  }
  Error fail(const std::string& what) const { return template_error(line_, what); }
  bool here(std::string_view text) const { return s_.substr(at_).starts_with(text); }
  void advance(size_t to) {
    line_ += static_cast<int>(std::count(s_.begin() + static_cast<ptrdiff_t>(at_), s_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    if (to > at_) line_starts_ = s_[to - 1] == '\n';
    at_ = to;
  }
  size_t after_space(size_t at) const {
    while (at < s_.size() && is_space(char_at(s_, at))) at = next_char_at(s_, at);
    return at;
  }
  void skip_space() { advance(after_space(at_)); }

  // The text up to `end`, where a tag with this sign begins.
  void data(size_t end, char sign, bool print) {
    std::string_view text = s_.substr(at_, end - at_);
    if (sign == '-') {
      text = strip(text, Side::kRight);
    } else if (sign != '+' && !print) {
      const size_t line = text.rfind('\n') + 1;  // 0: none
      if ((line > 0 || line_starts_) && strip(text.substr(line), Side::kRight).empty()) text = text.substr(0, line);
    }
    if (!text.empty()) add(Token::kData, std::string(text));
    advance(end);
  }

  char sign_at(size_t at) const { return at < s_.size() && (s_[at] == '-' || s_[at] == '+') ? s_[at] : 0; }

  // Where "raw" or "endraw" and its tag end, if that is the tag at `at`; else npos.
  size_t after_word(size_t at, std::string_view word) const {
    at = after_space(at + 2 + (sign_at(at + 2) ? 1 : 0));
    if (!s_.substr(at).starts_with(word)) return std::string_view::npos;
    at = after_space(at + word.size());
    const bool end = word == "endraw";
    const std::string_view rest = s_.substr(at);
    if (rest.starts_with("-%}")) return after_space(at + 3);
    if (end && rest.starts_with("+%}")) return at + 3;
    if (!rest.starts_with("%}")) return std::string_view::npos;
    return at + 2 + (end && rest.substr(2).starts_with('\n') ? 1 : 0);
  }

  Status root() {
    size_t tag = s_.find('{', at_);
    while (tag != std::string_view::npos && (tag + 1 >= s_.size() || (s_[tag + 1] != '{' && s_[tag + 1] != '%' && s_[tag + 1] != '#'))) tag = s_.find('{', tag + 1);
    if (tag == std::string_view::npos) {
      add(Token::kData, std::string(s_.substr(at_)));
      at_ = s_.size();
      return {};
    }
    const char kind = s_[tag + 1], sign = sign_at(tag + 2);
    data(tag, sign, kind == '{');
    if (kind == '%')
      if (const size_t end = after_word(tag, "raw"); end != std::string_view::npos) return raw(end);
    advance(tag + 2 + (sign ? 1 : 0));
    if (kind == '#') return comment();
    add(kind == '{' ? Token::kPrintBegin : Token::kBlockBegin);
    return expression(kind == '{');
  }

  Status raw(size_t begin) {
    advance(begin);
    for (size_t tag = at_; (tag = s_.find("{%", tag)) != std::string_view::npos; tag += 2) {
      const size_t end = after_word(tag, "endraw");
      if (end == std::string_view::npos) continue;
      data(tag, sign_at(tag + 2), false);
      advance(end);
      return {};
    }
    return fail("{% raw %} has no {% endraw %}");
  }

  Status comment() {
    const size_t end = s_.find("#}", at_);
    if (end == std::string_view::npos) return fail("a comment has no end: '{#' without '#}'");
    const char sign = end > at_ ? sign_at(end - 1) : 0;
    const size_t after = end + 2;
    advance(sign == '-' ? after_space(after) : after + (!sign && s_.substr(after).starts_with('\n') ? 1 : 0));
    return {};
  }

  Status expression(bool print) {
    for (;;) {
      if (at_ >= s_.size()) return fail(print ? "'{{' has no end: '}}' is missing" : "'{%' has no end: '%}' is missing");
      if (open_.empty() && end_tag(print)) return {};
      const char c = s_[at_];
      const char32_t wide = char_at(s_, at_);
      if (is_space(wide)) skip_space();
      else if (is_digit(c)) INGOT_TRY(number());
      else if (c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (wide >= 0x80 && unicode::is_word(wide))) name();
      else if (c == '\'' || c == '"') INGOT_TRY(text());
      else INGOT_TRY(op());
    }
  }

  bool end_tag(bool print) {
    const std::string_view end = print ? "}}" : "%}";
    const char sign = sign_at(at_);
    const size_t tag = at_ + (sign ? 1 : 0);
    if (!s_.substr(tag).starts_with(end) || (print && sign == '+')) return false;
    add(print ? Token::kPrintEnd : Token::kBlockEnd);
    const size_t after = tag + 2;
    advance(sign == '-' ? after_space(after) : after + (!print && !sign && s_.substr(after).starts_with('\n') ? 1 : 0));
    return true;
  }

  void name() {
    size_t end = at_;
    while (end < s_.size() && (s_[end] == '_' || unicode::is_word(char_at(s_, end)))) end = next_char_at(s_, end);
    add(Token::kName, std::string(s_.substr(at_, end - at_)));
    advance(end);
  }

  // Digits that `is` takes from `at` on, single underscores between them.
  template <class Is>
  size_t digits(size_t at, const Is& is) const {
    size_t end = at;
    while (end < s_.size() && (is(s_[end]) || (end > at && s_[end] == '_' && end + 1 < s_.size() && is(s_[end + 1])))) ++end;
    return end;
  }

  Status number() {
    const size_t whole = digits(at_, is_digit);
    size_t end = whole;
    if (end + 1 < s_.size() && s_[end] == '.' && is_digit(s_[end + 1])) end = digits(end + 1, is_digit);
    if (end < s_.size() && (s_[end] == 'e' || s_[end] == 'E')) {
      const size_t exponent = end + 1 + (sign_at(end + 1) ? 1 : 0);
      if (exponent < s_.size() && is_digit(s_[exponent])) end = digits(exponent, is_digit);
    }
    const bool after_point = at_ > 0 && s_[at_ - 1] == '.';
    const auto plain = [](std::string_view part) {
      std::string out(part);
      std::erase(out, '_');
      return out;
    };
    if (end > whole && !after_point) {
      const std::string digits = plain(s_.substr(at_, end - at_));
      add(Token::kFloat, digits).real = std::strtod(digits.c_str(), nullptr);
      advance(end);
      return {};
    }
    int base = 10;
    size_t begin = at_;
    end = whole;
    if (s_[at_] == '0') {
      const char letter = at_ + 1 < s_.size() ? static_cast<char>(s_[at_ + 1] | 0x20) : 0;
      base = letter == 'b' ? 2 : letter == 'o' ? 8 : letter == 'x' ? 16 : 10;
      const auto is = [&](char c) {
        const int n = is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 99;
        return n < base;
      };
      if (base != 10) begin += 2, end = digits(begin, is);
      else end = digits(begin, [](char c) { return c == '0'; });
      if (end == begin) begin = at_, base = 10, end = at_ + 1;
    }
    const std::string digits = plain(s_.substr(begin, end - begin));
    int64_t value = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), value, base).ec != std::errc())
      return fail(fmt::format("the number {} needs more than 64 bits", quoted(digits)));
    add(Token::kInteger, digits).integer = value;
    advance(end);
    return {};
  }

  Status text() {
    const char quote = s_[at_];
    std::string out;
    size_t i = at_ + 1;
    for (; i < s_.size() && s_[i] != quote; ++i) {
      if (s_[i] != '\\') {
        out += s_[i];
        continue;
      }
      if (++i >= s_.size()) break;
      INGOT_TRY(escape(&i, &out));
    }
    if (i >= s_.size()) return fail(fmt::format("a text has no end: it begins with {}", quoted(s_.substr(at_, 40))));
    add(Token::kText, std::move(out));
    advance(i + 1);
    return {};
  }

  // What follows a backslash; *i is left at its last byte.
  Status escape(size_t* i, std::string* out) {
    const char c = s_[*i];
    constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t k = kFrom.find(c); k != std::string_view::npos) {
      *out += kTo[k];
      return {};
    }
    if (c == '\n') return {};
    uint32_t code = 0;
    if (c >= '0' && c <= '7') {
      size_t n = 0;
      for (; n < 3 && *i + n < s_.size() && s_[*i + n] >= '0' && s_[*i + n] <= '7'; ++n) code = code * 8 + static_cast<uint32_t>(s_[*i + n] - '0');
      *i += n - 1;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::string_view hex = s_.substr(*i + 1, n);
      const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
      if (hex.size() < n || error != std::errc() || end != hex.data() + n) return fail(fmt::format("the escape \\{} needs {} hexadecimal digits", c, n));
      *i += n;
    } else if (c == 'N') {
      return fail("the escape \\N is not supported: write the character, or \\u and its number");
    } else {
      *out += {'\\', c};  // as Python: none that it knows
      return {};
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return fail(fmt::format("the escape of {:X} is no character", code));
    unicode::append_utf8(*out, code);
    return {};
  }

  Status op() {
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (!here(two)) continue;
      add(Token::kOperator, std::string(two));
      advance(at_ + 2);
      return {};
    }
    const char c = s_[at_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos)
      return fail(fmt::format("unexpected {} in an expression", quoted(s_.substr(at_, next_char_at(s_, at_) - at_))));
    if (c == '(' || c == '[' || c == '{') open_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_.empty() || open_.back() != c) return fail(fmt::format("unexpected '{}'{}", c, open_.empty() ? "" : fmt::format(", expected '{}'", open_.back())));
      open_.pop_back();
    }
    add(Token::kOperator, std::string(1, c));
    advance(at_ + 1);
    return {};
  }

  std::string_view s_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::string open_;  // the brackets that are to come
  std::vector<Token> tokens_;
};

}  // namespace

Error template_error(int line, const std::string& what) { return bad_input("line {}: {}", line, what); }

Result<std::vector<Token>> cut_template(std::string_view source) { return Lexer(with_plain_lines(source)).run(); }

}  // namespace ingot::jinja
