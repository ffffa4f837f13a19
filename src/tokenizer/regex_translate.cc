// Translates Oniguruma's Ruby syntax to PCRE2's. Where they differ: \b, $ and ^, {n,m}+, {,n}, (?m), options in the middle of a
// group; what a single character may be is in regex_classes.cc.
#include <fmt/format.h>

#include <cctype>
#include <cstring>
#include <string>

#include "tokenizer/regex.h"
#include "tokenizer/regex_classes.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

class Translator : PatternReader {
 public:
  using PatternReader::PatternReader;

  Result<std::string> run() {
    INGOT_TRY(alternatives());
    if (more()) return malformed("a ) without (");
    return std::move(out_);
  }

 private:
  void append_literal(char32_t c) {
    if (c < 0x80 && !std::isalnum(static_cast<int>(c))) {
      out_ += fmt::format("\\x{{{:02X}}}", static_cast<unsigned>(c));
    } else {
      unicode::append_utf8(out_, c);
    }
  }

  // After a backslash that is in no class.
  Status escape() {
    const char c = more() ? p_[i_] : '\0';
    if (c == 'b' || c == 'B') {
      ++i_;
      const std::string word = fmt::format("[{}]", bare_word_members(recent_));
      out_ += c == 'b' ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                       : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
      return {};
    }
    if (std::string_view("RXAzZG").find(c) != std::string_view::npos) {
      ++i_;
      out_ += {'\\', c};
      return {};
    }
    if (c >= '1' && c <= '9') {
      ++i_;
      if (more() && std::isdigit(static_cast<uint8_t>(p_[i_]))) return unsupported("a back reference above \\9");
      out_ += std::string("\\g{") + c + "}";
      return {};
    }
    CharacterSet set;
    INGOT_ASSIGN(const std::optional<char32_t> literal, escaped(set, false));
    if (literal) {
      append_literal(*literal);
    } else {
      out_ += set.expression();
    }
    return {};
  }

  // Reads {n}, {n,}, {,m} or {n,m} at '{'; false when the brace is a literal.
  bool interval(std::string* text) {
    size_t j = i_ + 1;
    std::string low, high;
    bool comma = false;
    while (j < p_.size() && std::isdigit(static_cast<uint8_t>(p_[j]))) low += p_[j++];
    if (j < p_.size() && p_[j] == ',') {
      comma = true;
      ++j;
      while (j < p_.size() && std::isdigit(static_cast<uint8_t>(p_[j]))) high += p_[j++];
    }
    if (j >= p_.size() || p_[j] != '}' || (low.empty() && high.empty()) || low.size() > 6 || high.size() > 6)
      return false;
    i_ = j + 1;
    *text = fmt::format("{{{}{}{}}}", low.empty() ? "0" : low, comma ? "," : "", high);
    return true;
  }

  // After an atom that starts at out_[start]: its quantifiers.
  Status quantifiers(size_t start) {
    while (more()) {
      const char c = p_[i_];
      if (c == '*' || c == '+' || c == '?') {
        ++i_;
        out_ += c;
        if (more() && (p_[i_] == '?' || p_[i_] == '+')) out_ += p_[i_++];
      } else if (c == '{') {
        std::string text;
        if (!interval(&text)) return {};
        const bool exact = text.find(',') == std::string::npos;
        out_ += text;
        // Ruby: {n,m}? is lazy, {n}? is (?:{n})?, and {n,m}+ is (?:{n,m})+, not possessive.
        if (more() && p_[i_] == '?' && !exact) out_ += p_[i_++];
      } else {
        return {};
      }
      if (more() && (p_[i_] == '*' || p_[i_] == '+' || p_[i_] == '?' || p_[i_] == '{')) {
        if (++requantified_ > kMaxDepth) return malformed("too many quantifiers on one atom");
        out_.insert(start, "(?:");
        out_ += ')';
      }
    }
    return {};
  }

  // A whole alternation, up to ')' or the end.
  Status alternatives() {
    if (++depth_ > kMaxDepth) return malformed("it nests too deeply");
    int opened = 0;  // groups that stand for options set in the middle of this one
    while (more()) {
      const size_t start = out_.size();
      const char c = p_[i_];
      if (c == ')') break;
      if (c == '|') {
        ++i_;
        out_ += '|';
        continue;
      }
      if (c == '(') {
        ++i_;
        bool options_only = false;
        INGOT_TRY(group(&options_only));
        if (options_only) {
          ++opened;
          continue;
        }
      } else if (c == '[') {
        ++i_;
        INGOT_ASSIGN(const std::string set, char_class());
        out_ += set;
      } else if (c == '\\') {
        ++i_;
        INGOT_TRY(escape());
      } else if (c == '^') {
        ++i_;
        out_ += "(?m:^)";
      } else if (c == '$') {
        ++i_;
        out_ += "(?m:$)";
      } else if (c == '.') {
        ++i_;
        out_ += '.';
      } else if (c == '*' || c == '+' || c == '?') {
        return malformed(std::string("nothing to repeat before ") + c);
      } else if (extended_ && std::strchr(" \t\r\n\f\v", c)) {
        ++i_;
        continue;
      } else if (extended_ && c == '#') {
        while (more() && p_[i_] != '\n') ++i_;
        continue;
      } else {
        append_literal(take());
      }
      INGOT_TRY(quantifiers(start));
    }
    out_.append(static_cast<size_t>(opened), ')');
    --depth_;
    return {};
  }

  // After '(': the group and its ')'. (?i) alone opens a group that lasts to the end of the enclosing one.
  Status group(bool* options_only) {
    const bool extended = extended_;
    std::string open = "(";
    if (looking_at("*")) return unsupported("(*");
    if (looking_at("?")) {
      static constexpr std::string_view kPlain[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
      bool plain = false;
      for (const auto& p : kPlain) {
        if (!looking_at(p)) continue;
        open += p;
        i_ += p.size();
        plain = true;
        break;
      }
      if (!plain && looking_at("?#")) {
        const size_t close = p_.find(')', i_);
        if (close == std::string_view::npos) return malformed("(?# without )");
        i_ = close + 1;
        return {};
      }
      if (!plain && looking_at("?<")) {
        const size_t close = p_.find('>', i_);
        if (close == std::string_view::npos) return malformed("(?< without >");
        i_ = close + 1;  // the name does not matter: nothing refers to groups by name
      } else if (!plain) {
        ++i_;
        std::string on, off;
        bool minus = false;
        while (more() && p_[i_] != ':' && p_[i_] != ')') {
          const char c = p_[i_++];
          if (c == '-') {
            minus = true;
          } else if (c == 'i' || c == 'm') {
            (minus ? off : on) += c == 'm' ? 's' : 'i';  // Ruby's m is PCRE2's s
          } else if (c == 'x') {
            extended_ = !minus;
          } else {
            return unsupported(std::string("the group (?") + c);
          }
        }
        if (!more()) return malformed("a ( without )");
        open += "?" + on + (off.empty() ? "" : "-" + off) + ":";
        if (p_[i_++] == ')') {
          out_ += open;
          *options_only = true;
          return {};
        }
      }
    }
    out_ += open;
    INGOT_TRY(alternatives());
    if (!more()) return malformed("a ( without )");
    ++i_;
    out_ += ')';
    extended_ = extended;
    return {};
  }

  std::string out_;
  int requantified_ = 0;
  bool extended_ = false;
};

}  // namespace

Result<std::string> translate_oniguruma(std::string_view pattern, bool recent) {
  if (!unicode::is_valid_utf8(pattern)) return bad_input("the pattern {} is not UTF-8", quoted(pattern));
  return Translator(pattern, recent).run();
}

}  // namespace ingot
