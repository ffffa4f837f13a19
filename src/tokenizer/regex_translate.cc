// Translates Oniguruma's Ruby syntax to PCRE2's. Where they differ: \h, \v, \s, \w, \b, $ and ^, {n,m}+,
// {,n}, (?m), options in the middle of a group, nested and intersected classes, scripts (PCRE2 takes \p{Han}
// for script extensions), \x bytes, POSIX brackets.
#include <cctype>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/recent_characters.h"
#include "tokenizer/regex.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

// Members of a PCRE2 class with Oniguruma's meaning of \s. (PCRE2's \s also takes U+180E, its \w no marks.)
constexpr const char* kSpace =
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{"
    "3000}";
constexpr const char* kHex = "0-9A-Fa-f";
constexpr int kMaxDepth = 64;
constexpr char32_t kNone = 0xFFFFFFFF;

std::string negated(const std::string& members) { return "[^" + members + "]"; }
std::string wrapped(const std::string& members) { return "[" + members + "]"; }

// As a [...], or bare where a property stands alone: PCRE2 is faster with those.
std::string one_of(const std::string& members, bool negative) {
  if (members.compare(0, 2, "\\p") == 0 && members.find('}') + 1 == members.size()) {
    return (negative ? "\\P" : "\\p") + members.substr(2);
  }
  return negative ? negated(members) : wrapped(members);
}

// A set of characters as one PCRE2 expression that matches one character. `members` is what may stand in a
// [...]; `others` are whole expressions beside it.
struct Set {
  std::string members;
  std::vector<std::string> others;
  std::string expression() const {
    std::vector<std::string> all = others;
    if (!members.empty()) all.insert(all.begin(), wrapped(members));
    if (all.empty()) return "(?!)";
    if (all.size() == 1) return all[0];
    std::string s = "(?:";
    for (size_t i = 0; i < all.size(); ++i) s += (i ? "|" : "") + all[i];
    return s + ")";
  }
  std::string complement() const {
    if (others.empty()) return members.empty() ? "(?s:.)" : negated(members);
    return "(?:(?!" + expression() + ")(?s:.))";
  }
};

class Translator {
 public:
  Translator(std::string_view p, bool recent) : p_(p), recent_(recent) {}

  Result<std::string> run() {
    INGOT_TRY(alternatives());
    if (more()) return malformed("a ) without (");
    return std::move(out_);
  }

 private:
  Error unsupported(const std::string& what) const {
    return bad_input("the pattern {} uses {}, which is not supported", quoted(p_), what);
  }
  Error malformed(const std::string& what) const {
    return bad_input("the pattern {} is malformed: {}", quoted(p_), what);
  }
  // The members of a class that a property of PCRE2 stands for.
  std::string category(std::string_view property) const {
    return "\\p{" + std::string(property) + "}" + (recent_ ? recent_members(property) : "");
  }
  std::string word_members() const {
    return category("L") + category("M") + category("Nd") + category("Nl") + category("Pc") +
           "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
  }
  // \w outside a class also takes the digits and fractions of Latin-1, by a table of Oniguruma's own.
  std::string bare_word_members() const { return word_members() + "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"; }
  bool more() const { return i_ < p_.size(); }
  bool looking_at(std::string_view s) const { return p_.substr(i_, s.size()) == s; }
  char32_t take() {
    const char* p = p_.data() + i_;
    const char32_t c = unicode::next_char(p);
    i_ = p - p_.data();
    return c;
  }

  static void append_literal(std::string& out, char32_t c) {
    if (c < 0x80 && !std::isalnum(static_cast<int>(c))) {
      char text[16];
      std::snprintf(text, sizeof text, "\\x{%02X}", static_cast<unsigned>(c));
      out += text;
    } else {
      unicode::append_utf8(out, c);
    }
  }
  static std::string code_point(char32_t c) {
    char text[16];
    std::snprintf(text, sizeof text, "\\x{%X}", static_cast<unsigned>(c));
    return text;
  }

  Result<char32_t> hex(size_t min, size_t max) {
    uint32_t v = 0;
    size_t n = 0;
    while (n < max && more() && std::isxdigit(static_cast<uint8_t>(p_[i_]))) {
      const char c = p_[i_++];
      v = v * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
      ++n;
    }
    if (n < min) return malformed("too few hexadecimal digits after a backslash");
    if (v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF)) return malformed("a code point out of range");
    return static_cast<char32_t>(v);
  }

  struct Property {
    std::string members;  // of a class
    bool negative;
  };
  // After "\p" or "\P".
  Result<Property> property(bool negative) {
    if (!looking_at("{")) return malformed("\\p without a {name}");
    const size_t close = p_.find('}', i_);
    if (close == std::string_view::npos) return malformed("\\p{ without }");
    std::string name;
    for (const char c : p_.substr(i_ + 1, close - i_ - 1)) {
      if (c == '^' && name.empty()) {
        negative = !negative;
      } else if (std::isalnum(static_cast<uint8_t>(c))) {
        name += static_cast<char>(std::tolower(static_cast<uint8_t>(c)));
      } else if (c != ' ' && c != '_' && c != '-') {
        return unsupported("\\p" + std::string(p_.substr(i_, close - i_ + 1)));
      }
    }
    i_ = close + 1;
    static const std::map<std::string, std::string> kCategories = {
        {"letter", "L"},
        {"casedletter", "L&"},
        {"lc", "L&"},
        {"uppercaseletter", "Lu"},
        {"lowercaseletter", "Ll"},
        {"titlecaseletter", "Lt"},
        {"modifierletter", "Lm"},
        {"otherletter", "Lo"},
        {"mark", "M"},
        {"combiningmark", "M"},
        {"nonspacingmark", "Mn"},
        {"spacingmark", "Mc"},
        {"enclosingmark", "Me"},
        {"number", "N"},
        {"decimalnumber", "Nd"},
        {"digit", "Nd"},
        {"letternumber", "Nl"},
        {"othernumber", "No"},
        {"punctuation", "P"},
        {"connectorpunctuation", "Pc"},
        {"dashpunctuation", "Pd"},
        {"openpunctuation", "Ps"},
        {"closepunctuation", "Pe"},
        {"initialpunctuation", "Pi"},
        {"finalpunctuation", "Pf"},
        {"otherpunctuation", "Po"},
        {"symbol", "S"},
        {"mathsymbol", "Sm"},
        {"currencysymbol", "Sc"},
        {"modifiersymbol", "Sk"},
        {"othersymbol", "So"},
        {"separator", "Z"},
        {"spaceseparator", "Zs"},
        {"lineseparator", "Zl"},
        {"paragraphseparator", "Zp"},
        {"other", "C"},
        {"control", "Cc"},
        {"cntrl", "Cc"},
        {"format", "Cf"},
        {"surrogate", "Cs"},
        {"privateuse", "Co"},
        {"unassigned", "Cn"},
        {"any", "Any"},
        {"alpha", "Alphabetic"},
        {"alphabetic", "Alphabetic"},
        {"upper", "Uppercase"},
        {"uppercase", "Uppercase"},
        {"lower", "Lowercase"},
        {"lowercase", "Lowercase"},
        {"emoji", "Emoji"},
        {"extendedpictographic", "Extended_Pictographic"},
        {"ideographic", "Ideographic"},
        {"emojipresentation", "Emoji_Presentation"},
        {"emojimodifier", "Emoji_Modifier"}};
    const std::string_view one = "LMNPSZC";
    std::string pcre;
    if (const auto it = kCategories.find(name); it != kCategories.end()) {
      pcre = it->second;
    } else if (name.size() == 1 && one.find(static_cast<char>(name[0] - 32)) != std::string_view::npos) {
      pcre = std::string(1, static_cast<char>(name[0] - 32));
    } else if (name.size() == 2) {
      pcre = {static_cast<char>(std::toupper(static_cast<uint8_t>(name[0]))), name[1]};
    } else if (name == "space" || name == "whitespace") {
      return Property{kSpace, negative};
    } else if (name.size() > 2) {
      pcre = "sc:" + name;  // the script alone, as Oniguruma means it
    } else {
      return malformed("an empty property name");
    }
    return Property{category(pcre), negative};
  }

  // After "[:" : adds a POSIX bracket to the set, or returns false when it is none.
  Result<bool> posix(Set& set) {
    const size_t close = p_.find(":]", i_);
    if (close == std::string_view::npos || close - i_ > 10) return false;
    std::string_view name = p_.substr(i_, close - i_);
    bool negative = false;
    if (!name.empty() && name[0] == '^') negative = true, name.remove_prefix(1);
    const std::map<std::string_view, std::string> kNames = {{"alpha", "\\p{Alphabetic}"},
                                                            {"digit", category("Nd")},
                                                            {"alnum", "\\p{Alphabetic}" + category("Nd")},
                                                            {"upper", "\\p{Uppercase}"},
                                                            {"lower", "\\p{Lowercase}"},
                                                            {"space", kSpace},
                                                            {"word", word_members()},
                                                            {"xdigit", kHex},
                                                            {"cntrl", "\\p{Cc}"},
                                                            {"blank", "\\p{Zs}\\x{09}"},
                                                            {"ascii", "\\x{00}-\\x{7F}"},
                                                            {"punct", category("P") + category("S")}};
    const auto it = kNames.find(name);
    if (it == kNames.end()) return unsupported("[:" + std::string(name) + ":]");
    i_ = close + 2;
    if (negative) {
      set.others.push_back(negated(it->second));
    } else {
      set.members += it->second;
    }
    return true;
  }

  // One escape inside a class: a single character (returned), or a set of them (added; returns none).
  Result<std::optional<char32_t>> class_escape(Set& set) {
    if (!more()) return malformed("it ends with a backslash");
    const char32_t c = take();
    switch (c) {
      case 'n':
        return {U'\n'};
      case 't':
        return {U'\t'};
      case 'r':
        return {U'\r'};
      case 'f':
        return {U'\f'};
      case 'v':
        return {U'\v'};
      case 'a':
        return {U'\a'};
      case 'e':
        return {char32_t{0x1B}};
      case 'b':
        return {U'\b'};
      case 'd':
        set.members += category("Nd");
        return std::optional<char32_t>{};
      case 'D':
        set.others.push_back(negated(category("Nd")));
        return std::optional<char32_t>{};
      case 's':
        set.members += kSpace;
        return std::optional<char32_t>{};
      case 'S':
        set.others.push_back(negated(kSpace));
        return std::optional<char32_t>{};
      case 'w':
        set.members += word_members();
        return std::optional<char32_t>{};
      case 'W':
        set.others.push_back(negated(word_members()));
        return std::optional<char32_t>{};
      case 'h':
        set.members += kHex;
        return std::optional<char32_t>{};
      case 'H':
        set.others.push_back(negated(kHex));
        return std::optional<char32_t>{};
      case 'p':
      case 'P': {
        INGOT_ASSIGN(const Property p, property(c == 'P'));
        if (p.negative && !recent_) {
          set.members += one_of(p.members, true);
        } else if (p.negative) {
          set.others.push_back(negated(p.members));
        } else {
          set.members += p.members;
        }
        return std::optional<char32_t>{};
      }
      default:
        break;
    }
    INGOT_ASSIGN(const char32_t literal, escaped_character(c));
    return {literal};
  }

  // \x, \u, \0 and escaped punctuation: what means one character anywhere.
  Result<char32_t> escaped_character(char32_t c) {
    if (c == 'x') {
      if (looking_at("{")) {
        ++i_;
        INGOT_ASSIGN(const char32_t v, hex(1, 8));
        if (!looking_at("}")) return malformed("\\x{ without }");
        ++i_;
        return v;
      }
      INGOT_ASSIGN(const char32_t v, hex(1, 2));
      if (v > 0x7F) return unsupported("\\x of a byte above 7F");
      return v;
    }
    if (c == 'u') return hex(4, 4);
    if (c == '0') {
      uint32_t v = 0;
      for (int n = 0; n < 2 && more() && p_[i_] >= '0' && p_[i_] <= '7'; ++n)
        v = v * 8 + static_cast<uint32_t>(p_[i_++] - '0');
      return static_cast<char32_t>(v);
    }
    if (c < 0x80 && std::isalnum(static_cast<int>(c)))
      return unsupported(std::string("the escape \\") + static_cast<char>(c));
    return c;
  }

  // After '[': reads to the matching ']'.
  Result<std::string> char_class() {
    if (++depth_ > kMaxDepth) return malformed("it nests too deeply");
    bool negative = false;
    if (looking_at("^")) negative = true, ++i_;
    std::vector<Set> operands(1);
    bool first = true;
    char32_t previous = kNone;  // a single character that may open a range
    while (true) {
      if (!more()) return malformed("a [ without ]");
      Set& set = operands.back();
      if (p_[i_] == ']' && !first) {
        ++i_;
        break;
      }
      first = false;
      if (looking_at("&&")) {
        i_ += 2;
        operands.emplace_back();
        previous = kNone;
        continue;
      }
      if (looking_at("[:")) {
        i_ += 2;
        INGOT_ASSIGN(const bool done, posix(set));
        previous = kNone;
        if (done) continue;
        i_ -= 2;
      }
      if (p_[i_] == '[') {
        ++i_;
        INGOT_ASSIGN(const std::string nested, char_class());
        set.others.push_back(nested);
        previous = kNone;
        continue;
      }
      if (p_[i_] == '-' && previous != kNone && i_ + 1 < p_.size() && p_[i_ + 1] != ']' &&
          !(p_.substr(i_ + 1, 2) == "&&")) {
        const size_t dash = i_++;
        Set scratch;
        std::optional<char32_t> last;
        if (p_[i_] == '\\') {
          ++i_;
          INGOT_ASSIGN(last, class_escape(scratch));
        } else if (p_[i_] != '[') {
          last = take();
        }
        if (!last) {  // [a-\d]: the dash is a literal
          i_ = dash + 1;
          set.members += code_point('-');
          previous = kNone;
          continue;
        }
        if (*last < previous) return malformed("a range in a class runs backwards");
        set.members += "-" + code_point(*last);
        previous = kNone;
        continue;
      }
      std::optional<char32_t> c;
      if (p_[i_] == '\\') {
        ++i_;
        INGOT_ASSIGN(c, class_escape(set));
      } else {
        c = take();
      }
      if (c) set.members += code_point(*c);
      previous = c.value_or(kNone);
    }
    --depth_;
    if (operands.size() == 1) return negative ? operands[0].complement() : operands[0].expression();
    std::string both = "(?:";
    for (size_t k = 0; k + 1 < operands.size(); ++k) both += "(?=" + operands[k].expression() + ")";
    both += operands.back().expression() + ")";
    if (!negative) return both;
    return "(?:(?!" + both + ")(?s:.))";
  }

  Status escape() {
    if (!more()) return malformed("it ends with a backslash");
    const char32_t c = take();
    const std::string word = wrapped(bare_word_members());
    switch (c) {
      case 'd':
        out_ += one_of(category("Nd"), false);
        return {};
      case 'D':
        out_ += one_of(category("Nd"), true);
        return {};
      case 's':
        out_ += wrapped(kSpace);
        return {};
      case 'S':
        out_ += negated(kSpace);
        return {};
      case 'w':
        out_ += word;
        return {};
      case 'W':
        out_ += negated(bare_word_members());
        return {};
      case 'h':
        out_ += wrapped(kHex);
        return {};
      case 'H':
        out_ += negated(kHex);
        return {};
      case 'b':
        out_ += "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))";
        return {};
      case 'B':
        out_ += "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))";
        return {};
      case 'R':
      case 'X':
      case 'A':
      case 'z':
      case 'Z':
      case 'G':
        out_ += '\\';
        out_ += static_cast<char>(c);
        return {};
      case 'n':
        out_ += "\\x{0A}";
        return {};
      case 't':
        out_ += "\\x{09}";
        return {};
      case 'r':
        out_ += "\\x{0D}";
        return {};
      case 'f':
        out_ += "\\x{0C}";
        return {};
      case 'v':
        out_ += "\\x{0B}";
        return {};
      case 'a':
        out_ += "\\x{07}";
        return {};
      case 'e':
        out_ += "\\x{1B}";
        return {};
      case 'p':
      case 'P': {
        INGOT_ASSIGN(const Property p, property(c == 'P'));
        out_ += one_of(p.members, p.negative);
        return {};
      }
      default:
        break;
    }
    if (c >= '1' && c <= '9') {
      if (more() && std::isdigit(static_cast<uint8_t>(p_[i_])))
        return unsupported("a back reference above \\9");
      out_ += "\\g{" + std::string(1, static_cast<char>(c)) + "}";
      return {};
    }
    INGOT_ASSIGN(const char32_t literal, escaped_character(c));
    append_literal(out_, literal);
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
    *text = "{" + (low.empty() ? std::string("0") : low) + (comma ? "," + high : "") + "}";
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
        append_literal(out_, take());
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

  std::string_view p_;
  bool recent_;
  size_t i_ = 0;
  std::string out_;
  int depth_ = 0;
  int requantified_ = 0;
  bool extended_ = false;
};

}  // namespace

Result<std::string> translate_oniguruma(std::string_view pattern, bool recent) {
  if (!unicode::is_valid_utf8(pattern)) return bad_input("the pattern {} is not UTF-8", quoted(pattern));
  Translator t(pattern, recent);
  return t.run();
}

}  // namespace ingot
