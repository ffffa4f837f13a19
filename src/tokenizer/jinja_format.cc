// str.format with its specifications, and the operator % of texts.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_text.h"
#include "tokenizer/unicode.h"

namespace ingot::jinja {
namespace {

constexpr int64_t kMaxWidth = 100'000;  // of a field, and of a precision

struct Spec {
  std::string fill = " ";
  char align = 0, sign = '-', grouping = 0, type = 0;
  bool alternate = false, zero = false;
  int64_t width = 0, precision = -1;
};

// Digits at `*at`, which moves behind them; -1: there are none.
Result<int64_t> read_number(std::string_view text, size_t* at) {
  int64_t n = -1;
  for (; *at < text.size() && text[*at] >= '0' && text[*at] <= '9'; ++*at) {
    n = std::max<int64_t>(n, 0) * 10 + (text[*at] - '0');
    if (n > kMaxWidth) return bad_input("the width or precision in a format is larger than {}", kMaxWidth);
  }
  return n;
}

Result<Spec> read_spec(std::string_view text) {
  Spec s;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  size_t i = 0;
  if (!text.empty()) {
    const size_t n = next_char_at(text, 0);
    if (n < text.size() && is_align(text[n])) s.fill = text.substr(0, n), s.align = text[n], i = n + 1;
    else if (is_align(text[0])) s.align = text[0], i = 1;
  }
  const auto take = [&](std::string_view any) { return i < text.size() && any.find(text[i]) != std::string_view::npos ? text[i++] : 0; };
  if (const char c = take("+- ")) s.sign = c;
  s.alternate = take("#");
  if (take("0")) {
    s.zero = true;
    if (!s.align) s.fill.assign(1, '0'), s.align = '=';
  }
  INGOT_ASSIGN(const int64_t width, read_number(text, &i));
  s.width = std::max<int64_t>(width, 0);
  s.grouping = take(",_");
  if (take(".")) {
    INGOT_ASSIGN(s.precision, read_number(text, &i));
    if (s.precision < 0) return bad_input("a format has no digits after its '.'");
  }
  if (i < text.size()) s.type = text[i++];
  if (i != text.size()) return bad_input("the format '{}' is not understood", text);
  return s;
}

std::string padded(const Spec& s, const std::string& sign, const std::string& body, char otherwise) {
  const auto missing = static_cast<size_t>(std::max<int64_t>(0, s.width - static_cast<int64_t>(count_chars(body) + sign.size())));
  const char align = s.align ? s.align : otherwise;
  const size_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string left, right;
  for (size_t i = 0; i < missing; ++i) (i < before ? left : right) += s.fill;
  return align == '=' ? sign + left + body : left + sign + body + right;
}

std::string grouped(std::string digits, char separator, size_t size) {
  if (!separator) return digits;
  const size_t end = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (size_t i = end; i > size; i -= size) digits.insert(i - size, 1, separator);
  return digits;
}

std::string signed_text(const Spec& s, bool negative) { return negative ? "-" : s.sign == '-' ? "" : std::string(1, s.sign); }

std::string number_text(double f, char type, int64_t precision, bool alternate) {
  if (std::isnan(f)) return type >= 'A' && type <= 'Z' ? "NAN" : "nan";
  if (std::isinf(f)) return type >= 'A' && type <= 'Z' ? "INF" : "inf";
  const std::string format = std::string(alternate ? "%#" : "%") + ".*" + type;
  const int p = static_cast<int>(precision);
  std::string out(static_cast<size_t>(std::snprintf(nullptr, 0, format.c_str(), p, f)), '\0');
  std::snprintf(out.data(), out.size() + 1, format.c_str(), p, f);
  return out;
}

Result<std::string> format_float(double f, Spec s) {
  const bool negative = std::signbit(f) && !std::isnan(f);
  f = std::abs(f);
  std::string body;
  switch (s.type) {
    case 0:
      if (s.precision < 0) {
        body = float_text(f);
      } else {
        // As g, but a number without an exponent keeps one digit after its point.
        body = number_text(f, 'g', std::max<int64_t>(s.precision, 1), s.alternate);
        if (body.find_first_of(".en") == std::string::npos) {
          if (static_cast<int64_t>(body.size()) >= s.precision) body = number_text(f, 'e', std::max<int64_t>(s.precision - 1, 0), false);
          else body += ".0";
        }
      }
      break;
    case 'n':
      s.type = 'g';
      [[fallthrough]];
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      body = number_text(f, s.type, s.precision < 0 ? 6 : s.precision, s.alternate);
      break;
    case '%':
      body = number_text(f * 100, 'f', s.precision < 0 ? 6 : s.precision, s.alternate) + "%";
      break;
    default:
      return bad_input("a float has no format '{}'", s.type);
  }
  return padded(s, signed_text(s, negative), grouped(body, s.grouping, 3), '>');
}

std::string digits_of(uint64_t magnitude, int base, bool capital) {
  char buffer[65];
  std::string out(buffer, std::to_chars(buffer, buffer + sizeof buffer, magnitude, base).ptr);
  return capital ? upper(out) : out;
}
uint64_t magnitude(int64_t n) { return n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n); }

Result<std::string> format_integer(int64_t n, const Spec& s) {
  const std::string_view bases = "bodxX";
  if (s.type != 0 && bases.find(s.type) == std::string_view::npos && s.type != 'n' && s.type != 'c') return format_float(static_cast<double>(n), s);
  if (s.precision >= 0) return bad_input("an integer has no precision in a format");
  if (s.type == 'c') {
    if (n < 0 || n > 0x10FFFF || (n >= 0xD800 && n < 0xE000)) return bad_input("{} is no character", n);
    std::string body;
    unicode::append_utf8(body, static_cast<char32_t>(n));
    return padded(s, "", body, '<');
  }
  const int base = s.type == 'b' ? 2 : s.type == 'o' ? 8 : s.type == 'x' || s.type == 'X' ? 16 : 10;
  std::string sign = signed_text(s, n < 0);
  if (s.alternate && base != 10) sign += std::string("0") + s.type;
  return padded(s, sign, grouped(digits_of(magnitude(n), base, s.type == 'X'), s.grouping, base == 10 ? 3 : 4), '>');
}

Result<std::string> format_value(Budget& b, const Value& v, std::string_view spec) {
  if (spec.empty()) return to_text(b, v);
  if (v.is(Kind::kText)) {
    INGOT_ASSIGN(const Spec s, read_spec(spec));
    if ((s.type && s.type != 's') || (s.align == '=' && !s.zero) || s.sign != '-' || s.grouping || s.alternate) return bad_input("a text has no format '{}'", spec);
    const std::string_view text = v.text();
    return padded(s, "", std::string(text.substr(0, s.precision < 0 ? text.size() : offset_of(text, static_cast<size_t>(s.precision)))), '<');
  }
  if (!v.is_number()) return bad_input("'{}' has no format '{}'", type_name(v), spec);
  INGOT_ASSIGN(const Spec s, read_spec(spec));
  return v.is(Kind::kFloat) ? format_float(v.real(), s) : format_integer(v.integer(), s);
}

// The fields of a format, counted from left to right where they have no names.
class Fields {
 public:
  using Member = std::function<Result<Value>(Value&, const Value& key, bool attribute)>;
  Fields(Budget& b, const Call& call, const Member& member) : b_(b), call_(call), member_(member) {}

  Result<std::string> fill(std::string_view format, int depth = 0) {
    if (depth > 2) return bad_input("the fields of a format are nested too deep");
    std::string out;
    for (size_t i = 0; i < format.size();) {
      const char c = format[i++];
      if (c != '{' && c != '}') {
        out += c;
        continue;
      }
      if (i < format.size() && format[i] == c) {
        out += c;
        ++i;
        continue;
      }
      if (c == '}') return bad_input("a format has a single '}}'");
      size_t end = i;
      for (int open = 1; end < format.size() && open > 0; ++end) open += format[end] == '{' ? 1 : format[end] == '}' ? -1 : 0;
      if (end > format.size() || end == i || format[end - 1] != '}') return bad_input("a format has a '{{' that nothing closes");
      INGOT_ASSIGN(const std::string field, one(format.substr(i, end - 1 - i), depth));
      out += field;
      INGOT_TRY(b_.room(out.size()));
      INGOT_TRY(b_.spend());
      i = end;
    }
    return out;
  }

 private:
  Result<std::string> one(std::string_view field, int depth) {
    // NAME!C:SPEC; the name may have brackets with anything in them.
    size_t end = 0;
    for (bool in = false; end < field.size() && (in || (field[end] != '!' && field[end] != ':')); ++end) in = field[end] == '[' || (in && field[end] != ']');
    const std::string_view name = field.substr(0, end);
    char conversion = 0;
    if (end < field.size() && field[end] == '!') {
      if (end + 1 >= field.size()) return bad_input("a format ends after '!'");
      conversion = field[end + 1];
      end += 2;
      if (end < field.size() && field[end] != ':') return bad_input("a format has something between its conversion and ':'");
    }
    INGOT_ASSIGN(Value v, lookup(name));
    INGOT_ASSIGN(const std::string spec, fill(end < field.size() ? field.substr(end + 1) : std::string_view(), depth + 1));
    if (conversion == 'r') v = make_text(b_, [&] { std::string out; append_repr(b_, v, &out); return out; }());
    else if (conversion == 's') v = make_text(b_, to_text(b_, v));
    else if (conversion != 0) return bad_input("a format has the conversion '!{}'; known are !r and !s", conversion);
    return format_value(b_, v, spec);
  }

  Result<Value> lookup(std::string_view name) {
    const size_t first = std::min(name.find_first_of(".["), name.size());
    const std::string_view head = name.substr(0, first);
    Value v;
    if (head.find_first_not_of("0123456789") == std::string_view::npos) {
      size_t at = 0;
      INGOT_ASSIGN(int64_t index, read_number(head, &at));
      const Numbering wanted = index < 0 ? Numbering::kAutomatic : Numbering::kByHand;
      if (numbering_ != Numbering::kNone && numbering_ != wanted) return bad_input("a format counts its fields both by itself and by hand");
      numbering_ = wanted;
      if (index < 0) index = next_++;
      if (index >= static_cast<int64_t>(call_.args.size())) return bad_input("a format has a field {}, but {} values were given", index, call_.args.size());
      v = call_.args[static_cast<size_t>(index)];
    } else {
      const auto it = std::find_if(call_.kwargs.begin(), call_.kwargs.end(), [&](const auto& k) { return k.first == head; });
      if (it == call_.kwargs.end()) return bad_input("a format has a field '{}', which was not given", head);
      v = it->second;
    }
    for (size_t i = first; i < name.size();) {
      const bool attribute = name[i] == '.';
      const size_t end = attribute ? std::min(name.find_first_of(".[", i + 1), name.size()) : name.find(']', i);
      if (end == std::string_view::npos || end == i + 1) return bad_input("a format has a field '{}', which is not understood", name);
      const std::string_view part = name.substr(i + 1, end - i - 1);
      size_t at = 0;
      const auto number = read_number(part, &at);
      const bool index = !attribute && number.ok() && at == part.size();
      INGOT_ASSIGN(v, member_(v, index ? Value(*number) : make_text(b_, std::string(part)), attribute));
      i = end + (attribute ? 0 : 1);
    }
    return v;
  }

  enum class Numbering { kNone, kAutomatic, kByHand };
  Budget& b_;
  const Call& call_;
  const Member& member_;
  Numbering numbering_ = Numbering::kNone;
  int64_t next_ = 0;
};

}  // namespace

Result<std::string> format_text(Budget& b, std::string_view format, const Call& call, const Fields::Member& member) {
  return Fields(b, call, member).fill(format);
}

Result<std::string> format_percent(Budget& b, std::string_view format, const Value& values) {
  const bool tuple = values.is(Kind::kSequence) && values.sequence().flavor == Flavor::kTuple;
  const bool mapping = values.is(Kind::kDict) || values.is(Kind::kUndefined) || (values.is(Kind::kSequence) && !tuple);
  const std::vector<Value> args = tuple ? values.sequence().items : std::vector<Value>{values};
  size_t next_arg = 0;
  const auto take = [&]() -> Result<Value> {
    if (next_arg >= args.size()) return bad_input("there are fewer values than the format has places");
    return args[next_arg++];
  };
  std::string out;
  for (size_t i = 0; i < format.size();) {
    if (format[i] != '%') {
      out += format[i++];
      continue;
    }
    ++i;
    INGOT_TRY(b.spend());
    Value v;
    if (i < format.size() && format[i] == '(') {
      const size_t end = format.find(')', i);
      if (end == std::string_view::npos || !values.is(Kind::kDict)) return bad_input("a format with names needs a dict");
      const Value* found = values.dict().find(format.substr(i + 1, end - i - 1));
      if (!found) return bad_input("a format has the name '{}', which the dict has not", format.substr(i + 1, end - i - 1));
      v = *found;
      i = end + 1;
    }
    Spec s;
    bool left = false, zero = false;
    for (; i < format.size(); ++i) {
      if (format[i] == '-') left = true;
      else if (format[i] == '0') zero = true;
      else if (format[i] == '+') s.sign = '+';
      else if (format[i] == ' ') s.sign = s.sign == '+' ? '+' : ' ';
      else if (format[i] == '#') s.alternate = true;
      else break;
    }
    const auto size = [&]() -> Result<int64_t> {
      if (i >= format.size() || format[i] != '*') return read_number(format, &i);
      ++i;
      INGOT_ASSIGN(const Value n, take());
      if (!n.is_integral() || std::abs(n.integer()) > kMaxWidth) return bad_input("'*' in a format needs an integer of at most {}", kMaxWidth);
      return n.integer();
    };
    INGOT_ASSIGN(s.width, size());
    if (s.width < -1) left = true, s.width = -s.width;
    if (i < format.size() && format[i] == '.') {
      ++i;
      INGOT_ASSIGN(s.precision, size());
      s.precision = std::max<int64_t>(s.precision, 0);
    }
    if (i >= format.size()) return bad_input("a format ends after '%'");
    const char type = format[i++];
    if (type == '%') {
      out += '%';
      continue;
    }
    if (!v.given()) {
      INGOT_ASSIGN(v, take());
    }
    s.align = left ? '<' : '>';
    std::string piece;
    if (type == 's' || type == 'r' || type == 'a') {
      if (type == 's') piece = to_text(b, v);
      else append_repr(b, v, &piece);
      if (s.precision >= 0) piece.resize(offset_of(piece, static_cast<size_t>(s.precision)));
      s.sign = '-';
      piece = padded(s, "", piece, '>');
    } else if (type == 'c' && v.is(Kind::kText)) {
      if (count_chars(v.text()) != 1) return bad_input("%c needs one character");
      piece = padded(s, "", v.text(), '>');
    } else {
      if (v.is(Kind::kUndefined)) return undefined_error(v);
      if (!v.is_number()) return bad_input("%{} needs a number, not '{}'", type, type_name(v));
      if (zero && !left) s.fill.assign(1, '0'), s.align = '=';
      if (std::string_view("eEfFgG").find(type) != std::string_view::npos) {
        s.type = type;
        INGOT_ASSIGN(piece, format_float(v.real(), s));
      } else if (std::string_view("diuoxXc").find(type) != std::string_view::npos) {
        if (v.is(Kind::kFloat) && (type == 'o' || type == 'x' || type == 'X' || type == 'c' || !(std::abs(v.real()) < 9.2e18)))
          return bad_input("%{} needs an integer within 64 bits", type);
        const int64_t n = v.is(Kind::kFloat) ? static_cast<int64_t>(v.real()) : v.integer();
        s.type = type == 'i' || type == 'u' ? 'd' : type;
        if (s.precision > 0 && type != 'c') {
          // Digits at least.
          const int base = type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
          std::string digits = digits_of(magnitude(n), base, type == 'X');
          if (static_cast<int64_t>(digits.size()) < s.precision) digits.insert(0, static_cast<size_t>(s.precision) - digits.size(), '0');
          piece = padded(s, signed_text(s, n < 0) + (s.alternate && base != 10 ? std::string("0") + type : ""), digits, '>');
        } else {
          s.precision = -1;
          INGOT_ASSIGN(piece, format_integer(n, s));
        }
      } else {
        return bad_input("a format has '%{}', which is not known", type);
      }
    }
    out += piece;
    INGOT_TRY(b.room(out.size()));
  }
  if (next_arg < args.size() && !mapping) return bad_input("there are more values than the format has places");
  return out;
}

}  // namespace ingot::jinja
