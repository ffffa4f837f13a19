// The methods of Python's str.
#include <utf8proc.h>

#include <algorithm>

#include "base/bytes.h"
#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/unicode.h"

namespace ingot::jinja {
namespace {

struct Self {
  Budget& b;
  const Value& value;
  std::string_view text;
  std::string_view name;
  Result<Value> made(std::string_view made) const { return make_text(b, std::string(made), value.is_safe()); }
  Result<Value> list(const std::vector<std::string_view>& parts, Flavor flavor = Flavor::kList) const {
    INGOT_TRY(b.room(parts.size() * (sizeof(Value) + sizeof(Text)) + text.size()));
    std::vector<Value> values;
    for (const std::string_view p : parts) values.push_back(make_text(b, std::string(p), value.is_safe()));
    return make_sequence(b, flavor, std::move(values));
  }
};

// Where a slice of characters begins and ends, in bytes: arguments `first` and the next, which may be None.
struct Bounds {
  size_t begin, end;
  bool empty_beyond;  // it begins beyond the end: nothing, not even "", is there
};
Result<Bounds> bounds(const Self& s, const Args& args, size_t first) {
  const auto n = static_cast<int64_t>(count_chars(s.text));
  const auto at = [&](size_t i, int64_t otherwise) -> Result<int64_t> {
    if (!args.given(i) || args[i].is(Kind::kNone)) return otherwise;
    INGOT_ASSIGN(const int64_t k, args.integer(i, 0));
    return k < 0 ? std::max<int64_t>(k + n, 0) : k;
  };
  INGOT_ASSIGN(const int64_t begin, at(first, 0));
  INGOT_ASSIGN(int64_t end, at(first + 1, n));
  end = std::min(end, n);
  const size_t from = offset_of(s.text, static_cast<size_t>(std::min(begin, n)));
  return Bounds{from, std::max(from, offset_of(s.text, static_cast<size_t>(end))), begin > end};
}

Result<Value> find(const Self& s, Call& call) {
  const bool last = s.name[0] == 'r';
  const bool must = s.name.ends_with("index");
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"", "", ""}, 1));
  INGOT_ASSIGN(const std::string part, a.text(0));
  INGOT_ASSIGN(const Bounds in, bounds(s, a, 1));
  const std::string_view window = s.text.substr(in.begin, in.end - in.begin);
  size_t at = std::string::npos;
  if (!in.empty_beyond && last) {
    // From the end by finding on: linear, where rfind() is not.
    for (size_t next = find_text(window, part, 0); next != std::string::npos; next = next < window.size() ? find_text(window, part, next + 1) : std::string::npos) {
      at = next;
      s.b.steps++;
      if (part.empty()) at = window.size();
      if (part.empty()) break;
    }
  } else if (!in.empty_beyond) {
    at = find_text(window, part, 0);
  }
  if (at == std::string::npos && must) return bad_input("{}(): the text is not found", s.name);
  if (at == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(count_chars(s.text.substr(0, in.begin + at))));
}

Result<Value> count(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"", "", ""}, 1));
  INGOT_ASSIGN(const std::string part, a.text(0));
  INGOT_ASSIGN(const Bounds in, bounds(s, a, 1));
  const std::string_view window = s.text.substr(in.begin, in.end - in.begin);
  if (in.empty_beyond) return Value(int64_t{0});
  if (part.empty()) return Value(static_cast<int64_t>(count_chars(window)) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = find_text(window, part, at)) != std::string::npos; at += part.size()) ++n;
  return Value(n);
}

Result<Value> begins_or_ends(const Self& s, Call& call) {
  const bool begins = s.name == "startswith";
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"", "", ""}, 1));
  INGOT_ASSIGN(const Bounds in, bounds(s, a, 1));
  const std::string_view window = s.text.substr(in.begin, in.end - in.begin);
  const bool many = a[0].is(Kind::kSequence) && a[0].sequence().flavor == Flavor::kTuple;
  bool found = false;
  for (const Value& v : many ? a[0].sequence().items : std::vector<Value>{a[0]}) {
    if (v.is(Kind::kUndefined)) return undefined_error(v);
    if (!v.is(Kind::kText)) return bad_input("{}() takes a text or a tuple of texts, not '{}'", s.name, type_name(v));
    if (!found) found = !in.empty_beyond && (begins ? window.starts_with(v.text()) : window.ends_with(v.text()));
  }
  return Value(found);
}

Result<Value> split(const Self& s, Call& call) {
  const bool right = s.name == "rsplit";
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"sep", "maxsplit"}));
  INGOT_ASSIGN(int64_t most, a.integer(1, -1));
  std::vector<std::string_view> parts;
  if (a.given(0) && !a[0].is(Kind::kNone)) {
    INGOT_ASSIGN(const std::string cut_at, a.text(0));
    if (cut_at.empty()) return bad_input("{}(): the separator is empty", s.name);
    if (!right || most < 0) return s.list(split_text(s.text, cut_at, most));
    std::string_view rest = s.text;
    for (size_t at; most-- > 0 && (at = rest.rfind(cut_at)) != std::string::npos; rest = rest.substr(0, at)) {
      parts.push_back(rest.substr(at + cut_at.size()));
      INGOT_TRY(s.b.spend(1 + static_cast<int64_t>((rest.size() - at) * std::min<size_t>(cut_at.size(), 64) / 16)));
    }
    parts.push_back(rest);
    std::reverse(parts.begin(), parts.end());
    return s.list(parts);
  }
  std::string_view rest = strip(s.text, right ? Side::kRight : Side::kLeft);
  while (!rest.empty()) {
    if (most-- == 0) {
      parts.push_back(rest);  // with the spaces at its other end
      break;
    }
    size_t at = right ? rest.size() : 0;
    if (right) {
      while (at > 0 && !is_space(char_at(rest, previous_char_at(rest, at)))) at = previous_char_at(rest, at);
      parts.push_back(rest.substr(at));
      rest = strip(rest.substr(0, at), Side::kRight);
    } else {
      while (at < rest.size() && !is_space(char_at(rest, at))) at = next_char_at(rest, at);
      parts.push_back(rest.substr(0, at));
      rest = strip(rest.substr(at), Side::kLeft);
    }
  }
  if (right) std::reverse(parts.begin(), parts.end());
  return s.list(parts);
}

Result<Value> partition(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {""}, 1));
  INGOT_ASSIGN(const std::string at_text, a.text(0));
  if (at_text.empty()) return bad_input("{}(): the separator is empty", s.name);
  size_t at = find_text(s.text, at_text, 0);
  if (at == std::string::npos) return s.list(s.name[0] == 'r' ? std::vector<std::string_view>{"", "", s.text} : std::vector<std::string_view>{s.text, "", ""}, Flavor::kTuple);
  if (s.name[0] == 'r')
    for (size_t next = at; next != std::string::npos; next = find_text(s.text, at_text, next + 1)) at = next;
  return s.list({s.text.substr(0, at), at_text, s.text.substr(at + at_text.size())}, Flavor::kTuple);
}

Result<Value> pad(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"", ""}, 1));
  INGOT_ASSIGN(const int64_t width, a.integer(0, 0));
  INGOT_ASSIGN(const std::string fill, a.text(1, s.name == "zfill" ? "0" : " "));
  if (count_chars(fill) != 1) return bad_input("{}(): the text to fill with must be one character", s.name);
  const int64_t missing = width - static_cast<int64_t>(count_chars(s.text));
  if (missing <= 0) return s.made(s.text);
  int64_t left = s.name == "ljust" ? 0 : s.name == "center" ? missing / 2 + (missing & width & 1) : missing;
  INGOT_ASSIGN(const std::string before, repeated(s.b, fill, left));
  INGOT_ASSIGN(const std::string after, repeated(s.b, fill, missing - left));
  if (s.name == "zfill" && !s.text.empty() && (s.text[0] == '-' || s.text[0] == '+')) return s.made(s.text[0] + before + std::string(s.text.substr(1)));
  return s.made(before + std::string(s.text) + after);
}

Result<Value> join(const Self& s, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind(s.name, call, {""}, 1));
  INGOT_ASSIGN(const std::vector<Value> items, iterate(s.b, a[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is(Kind::kText)) return bad_input("join(): item {} is no text, but '{}'", i, type_name(items[i]));
    if (i > 0) out += s.text;
    out += s.value.is_safe() && !items[i].is_safe() ? escaped(items[i].text()) : items[i].text();
    INGOT_TRY(s.b.room(out.size()));
  }
  return s.made(out);
}

// isalpha and its like: every character is one of them, and there is one.
bool all_are(std::string_view text, std::string_view name) {
  bool any = false, cased = false, previous_cased = false;
  for (size_t i = 0; i < text.size(); i = next_char_at(text, i)) {
    const char32_t c = char_at(text, i);
    const auto p = static_cast<utf8proc_int32_t>(c);
    const utf8proc_category_t k = utf8proc_category(p);
    const bool alpha = k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
    const bool is_upper = k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LT || utf8proc_tolower(p) != p;
    const bool is_lower = !is_upper && (k == UTF8PROC_CATEGORY_LL || utf8proc_toupper(p) != p);
    const bool digit = k == UTF8PROC_CATEGORY_ND;
    const bool number = digit || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
    any = true;
    if (name == "isalpha" && !alpha) return false;
    if (name == "isdecimal" && !digit) return false;
    if (name == "isdigit" && !digit && !(k == UTF8PROC_CATEGORY_NO && ((c >= 0x2070 && c <= 0x2089) || c == 0xB2 || c == 0xB3 || c == 0xB9))) return false;
    if (name == "isnumeric" && !number) return false;
    if (name == "isalnum" && !alpha && !number) return false;
    if (name == "isspace" && !is_space(c)) return false;
    if (name == "isprintable" && !is_printable(c)) return false;
    if (name == "isascii" && c >= 0x80) return false;
    if (name == "isidentifier" && !(alpha || c == '_' || (i > 0 && (digit || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_PC)))) return false;
    if (name == "islower" && is_upper) return false;
    if (name == "isupper" && is_lower) return false;
    if (name == "istitle" && ((is_upper && previous_cased) || (is_lower && !previous_cased))) return false;
    previous_cased = is_upper || is_lower;
    cased = cased || previous_cased;
  }
  if (name == "isascii" || name == "isprintable") return true;
  return name == "islower" || name == "isupper" || name == "istitle" ? cased : any;
}

Result<Value> strip_method(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {""}));
  const Side side = s.name[0] == 'l' ? Side::kLeft : s.name[0] == 'r' ? Side::kRight : Side::kBoth;
  if (!a.given(0) || a[0].is(Kind::kNone)) return s.made(strip(s.text, side));
  INGOT_ASSIGN(const std::string chars, a.text(0));
  return s.made(strip(s.text, side, chars));
}

Result<Value> remove_affix(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {""}, 1));
  INGOT_ASSIGN(const std::string part, a.text(0));
  if (s.name == "removeprefix") return s.made(s.text.starts_with(part) ? s.text.substr(part.size()) : s.text);
  return s.made(s.text.ends_with(part) ? s.text.substr(0, s.text.size() - part.size()) : s.text);
}

Result<Value> replace(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"", "", ""}, 2));
  INGOT_ASSIGN(const std::string old, a.text(0));
  INGOT_ASSIGN(std::string with, a.text(1));
  INGOT_ASSIGN(const int64_t most, a.integer(2, -1));
  if (s.value.is_safe() && !a[1].is_safe()) with = escaped(with);
  INGOT_ASSIGN(const std::string out, replaced(s.b, s.text, old, with, most));
  return s.made(out);
}

Result<Value> lines(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"keepends"}));
  return s.list(split_lines(s.text, a.boolean(0, false)));
}

Result<Value> expand_tabs(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {"tabsize"}));
  INGOT_ASSIGN(const int64_t size, a.integer(0, 8));
  std::string out;
  int64_t column = 0;
  for (size_t i = 0; i < s.text.size(); i = next_char_at(s.text, i)) {
    const char c = s.text[i];
    if (c == '\t') {
      const int64_t n = size > 0 ? size - column % size : 0;
      INGOT_TRY(s.b.room(out.size() + static_cast<uint64_t>(n)));
      out.append(static_cast<size_t>(n), ' ');
      column += n;
    } else {
      out += s.text.substr(i, next_char_at(s.text, i) - i);
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
  }
  return s.made(out);
}

// Without arguments.
Result<Value> recased(const Self& s, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind(s.name, call, {}));
  if (s.name.starts_with("is")) return Value(all_are(s.text, s.name));
  if (s.name == "upper") return s.made(upper(s.text));
  if (s.name == "capitalize") return s.made(capitalized(s.text));
  if (s.name == "title") return s.made(titled(s.text));
  if (s.name == "swapcase") return s.made(case_swapped(s.text));
  return s.made(s.name == "casefold" ? case_folded(s.text) : lower(s.text));
}

struct Method {
  std::string_view name;
  Result<Value> (*call)(const Self&, Call&);
};
constexpr Method kMethods[] = {
    {"strip", strip_method}, {"lstrip", strip_method}, {"rstrip", strip_method}, {"split", split}, {"rsplit", split}, {"splitlines", lines},
    {"startswith", begins_or_ends}, {"endswith", begins_or_ends}, {"replace", replace}, {"join", join}, {"find", find}, {"rfind", find},
    {"index", find}, {"rindex", find}, {"count", count}, {"partition", partition}, {"rpartition", partition}, {"removeprefix", remove_affix},
    {"removesuffix", remove_affix}, {"center", pad}, {"ljust", pad}, {"rjust", pad}, {"zfill", pad}, {"expandtabs", expand_tabs},
    {"upper", recased}, {"lower", recased}, {"title", recased}, {"capitalize", recased}, {"swapcase", recased}, {"casefold", recased},
    {"isalpha", recased}, {"isalnum", recased}, {"isdigit", recased}, {"isdecimal", recased}, {"isnumeric", recased}, {"isspace", recased},
    {"isupper", recased}, {"islower", recased}, {"istitle", recased}, {"isascii", recased}, {"isprintable", recased}, {"isidentifier", recased}};

const Method* method(std::string_view name) {
  for (const Method& m : kMethods)
    if (m.name == name) return &m;
  return nullptr;
}

}  // namespace

bool is_text_method(std::string_view name) { return method(name) != nullptr; }

Result<Value> call_text_method(Budget& b, const Value& self, std::string_view name, Call& call) {
  INGOT_TRY(b.spend(static_cast<int64_t>(self.text().size() / 16)));
  return method(name)->call({b, self, self.text(), name}, call);
}

}  // namespace ingot::jinja
