// Where Oniguruma and PCRE2 differ in what a character may be: \h, \v, \s, \w, scripts (PCRE2 takes \p{Han} for script
// extensions), \x bytes, POSIX brackets, nested and intersected classes.
#include "tokenizer/regex_classes.h"

#include <fmt/format.h>

#include <cctype>
#include <map>

#include "tokenizer/recent_characters.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

// Members of a PCRE2 class with Oniguruma's meaning of \s. (PCRE2's \s also takes U+180E, its \w no marks.)
constexpr const char* kSpace =
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
constexpr const char* kHex = "0-9A-Fa-f";
constexpr char32_t kNone = 0xFFFFFFFF;

std::string negated(const std::string& members) { return "[^" + members + "]"; }

// "\p{...}" or "\P{...}" and nothing more.
bool is_one_property(const std::string& members) {
  return (members.starts_with("\\p") || members.starts_with("\\P")) && members.find('}') + 1 == members.size();
}

// The members of a class that a property of PCRE2 stands for.
std::string category(std::string_view property, bool recent) {
  return "\\p{" + std::string(property) + "}" + (recent ? recent_members(property) : "");
}

std::string word_members(bool recent) {
  std::string out;
  for (const char* property : {"L", "M", "Nd", "Nl", "Pc"}) out += category(property, recent);
  return out + "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
}

std::string code_point(char32_t c) { return fmt::format("\\x{{{:X}}}", static_cast<unsigned>(c)); }

}  // namespace

// \w outside a class also takes the digits and fractions of Latin-1, by a table of Oniguruma's own.
std::string bare_word_members(bool recent) { return word_members(recent) + "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"; }

void CharacterSet::add(const std::string& some, bool negative) {
  if (!negative) {
    members += some;
  } else if (is_one_property(some)) {
    members += "\\P" + some.substr(2);
  } else {
    others.push_back(negated(some));
  }
}

std::string CharacterSet::expression() const {
  std::vector<std::string> all = others;
  // A property alone stands bare: PCRE2 is faster with those.
  if (!members.empty()) all.insert(all.begin(), is_one_property(members) ? members : "[" + members + "]");
  if (all.empty()) return "(?!)";
  if (all.size() == 1) return all[0];
  std::string s = "(?:";
  for (size_t i = 0; i < all.size(); ++i) s += (i ? "|" : "") + all[i];
  return s + ")";
}

std::string CharacterSet::complement() const {
  if (others.empty()) return members.empty() ? "(?s:.)" : negated(members);
  return "(?:(?!" + expression() + ")(?s:.))";
}

Error PatternReader::unsupported(const std::string& what) const {
  return bad_input("the pattern {} uses {}, which is not supported", quoted(p_), what);
}
Error PatternReader::malformed(const std::string& what) const {
  return bad_input("the pattern {} is malformed: {}", quoted(p_), what);
}

char32_t PatternReader::take() {
  const char* p = p_.data() + i_;
  const char32_t c = unicode::next_char(p);
  i_ = p - p_.data();
  return c;
}

Result<char32_t> PatternReader::hex(size_t min, size_t max) {
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

// After "\p" or "\P".
Status PatternReader::property(CharacterSet& set, bool negative) {
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
  static const std::map<std::string_view, const char*> kProperties = {
      {"letter", "L"}, {"casedletter", "L&"}, {"lc", "L&"}, {"uppercaseletter", "Lu"}, {"lowercaseletter", "Ll"},
      {"titlecaseletter", "Lt"}, {"modifierletter", "Lm"}, {"otherletter", "Lo"},
      {"mark", "M"}, {"combiningmark", "M"}, {"nonspacingmark", "Mn"}, {"spacingmark", "Mc"}, {"enclosingmark", "Me"},
      {"number", "N"}, {"decimalnumber", "Nd"}, {"digit", "Nd"}, {"letternumber", "Nl"}, {"othernumber", "No"},
      {"punctuation", "P"}, {"connectorpunctuation", "Pc"}, {"dashpunctuation", "Pd"}, {"openpunctuation", "Ps"},
      {"closepunctuation", "Pe"}, {"initialpunctuation", "Pi"}, {"finalpunctuation", "Pf"}, {"otherpunctuation", "Po"},
      {"symbol", "S"}, {"mathsymbol", "Sm"}, {"currencysymbol", "Sc"}, {"modifiersymbol", "Sk"}, {"othersymbol", "So"},
      {"separator", "Z"}, {"spaceseparator", "Zs"}, {"lineseparator", "Zl"}, {"paragraphseparator", "Zp"},
      {"other", "C"}, {"control", "Cc"}, {"cntrl", "Cc"}, {"format", "Cf"}, {"surrogate", "Cs"}, {"privateuse", "Co"},
      {"unassigned", "Cn"}, {"any", "Any"},
      {"alpha", "Alphabetic"}, {"alphabetic", "Alphabetic"}, {"upper", "Uppercase"}, {"uppercase", "Uppercase"},
      {"lower", "Lowercase"}, {"lowercase", "Lowercase"}, {"ideographic", "Ideographic"},
      {"emoji", "Emoji"}, {"emojipresentation", "Emoji_Presentation"}, {"emojimodifier", "Emoji_Modifier"},
      {"extendedpictographic", "Extended_Pictographic"}};
  const auto upper = [](char c) { return static_cast<char>(std::toupper(static_cast<uint8_t>(c))); };
  std::string pcre;
  if (const auto it = kProperties.find(name); it != kProperties.end()) {
    pcre = it->second;
  } else if (name.size() == 1 && std::string_view("LMNPSZC").find(upper(name[0])) != std::string_view::npos) {
    pcre = {upper(name[0])};
  } else if (name.size() == 2) {
    pcre = {upper(name[0]), name[1]};
  } else if (name == "space" || name == "whitespace") {
    set.add(kSpace, negative);
    return {};
  } else if (name.size() > 2) {
    pcre = "sc:" + name;  // the script alone, as Oniguruma means it
  } else {
    return malformed("an empty property name");
  }
  set.add(category(pcre, recent_), negative);
  return {};
}

// After "[:" : adds a POSIX bracket to the set, or returns false when it is none.
Result<bool> PatternReader::posix(CharacterSet& set) {
  const size_t close = p_.find(":]", i_);
  if (close == std::string_view::npos || close - i_ > 10) return false;
  std::string_view name = p_.substr(i_, close - i_);
  bool negative = false;
  if (!name.empty() && name[0] == '^') negative = true, name.remove_prefix(1);
  const std::map<std::string_view, std::string> brackets = {
      {"alpha", "\\p{Alphabetic}"}, {"digit", category("Nd", recent_)}, {"alnum", "\\p{Alphabetic}" + category("Nd", recent_)},
      {"upper", "\\p{Uppercase}"}, {"lower", "\\p{Lowercase}"}, {"space", kSpace}, {"word", word_members(recent_)},
      {"xdigit", kHex}, {"cntrl", "\\p{Cc}"}, {"blank", "\\p{Zs}\\x{09}"}, {"ascii", "\\x{00}-\\x{7F}"},
      {"punct", category("P", recent_) + category("S", recent_)}};
  const auto it = brackets.find(name);
  if (it == brackets.end()) return unsupported("[:" + std::string(name) + ":]");
  i_ = close + 2;
  set.add(it->second, negative);
  return true;
}

Result<std::optional<char32_t>> PatternReader::escaped(CharacterSet& set, bool in_class) {
  if (!more()) return malformed("it ends with a backslash");
  const char32_t c = take();
  const bool negative = c >= 'A' && c <= 'Z';
  switch (c) {
    case 'd':
    case 'D':
      set.add(category("Nd", recent_), negative);
      return std::optional<char32_t>{};
    case 's':
    case 'S':
      set.add(kSpace, negative);
      return std::optional<char32_t>{};
    case 'w':
    case 'W':
      set.add(in_class ? word_members(recent_) : bare_word_members(recent_), negative);
      return std::optional<char32_t>{};
    case 'h':
    case 'H':
      set.add(kHex, negative);
      return std::optional<char32_t>{};
    case 'p':
    case 'P':
      INGOT_TRY(property(set, negative));
      return std::optional<char32_t>{};
    default: {
      INGOT_ASSIGN(const char32_t literal, escaped_character(c));
      return {literal};
    }
  }
}

// \n, \x, \u, \0 and escaped punctuation: what means one character. (\b is one only in a class: elsewhere escape() takes it.)
Result<char32_t> PatternReader::escaped_character(char32_t c) {
  constexpr std::string_view kNames = "ntrfvabe";
  if (const size_t at = c < 0x80 ? kNames.find(static_cast<char>(c)) : std::string_view::npos; at != std::string_view::npos)
    return U"\n\t\r\f\v\a\b\x1B"[at];
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

Result<std::string> PatternReader::char_class() {
  if (++depth_ > kMaxDepth) return malformed("it nests too deeply");
  bool negative = false;
  if (looking_at("^")) negative = true, ++i_;
  std::vector<CharacterSet> operands(1);
  bool first = true;
  char32_t previous = kNone;  // a single character that may open a range
  while (true) {
    if (!more()) return malformed("a [ without ]");
    CharacterSet& set = operands.back();
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
      CharacterSet scratch;
      std::optional<char32_t> last;
      if (p_[i_] == '\\') {
        ++i_;
        INGOT_ASSIGN(last, escaped(scratch, true));
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
      INGOT_ASSIGN(c, escaped(set, true));
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

}  // namespace ingot
