// Filters of single values; those of sequences are in jinja_sequence_filters.cc.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {
namespace {

// The value as a text; a text stays as safe as it was.
Value soft_text(Evaluator& e, const Value& v) { return v.is(Kind::kText) ? v : e.text(to_text(e.budget(), v)); }

// A filter that is a method of texts, of what becomes one.
Result<Value> as_method(Evaluator& e, Call& call, const char* method) {
  const Value self = soft_text(e, call.args[0]);
  call.args.erase(call.args.begin());
  return call_text_method(e.budget(), self, method, call);
}

Result<Value> filter_upper(Evaluator& e, Call& call) { return as_method(e, call, "upper"); }
Result<Value> filter_lower(Evaluator& e, Call& call) { return as_method(e, call, "lower"); }
Result<Value> filter_capitalize(Evaluator& e, Call& call) { return as_method(e, call, "capitalize"); }

Result<Value> filter_trim(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("trim", call, {"", "chars"}, 1));
  Call stripping{.args = {a.value(1, Value::none())}, .kwargs = {}};
  return call_text_method(e.budget(), soft_text(e, a[0]), "strip", stripping);
}

Result<Value> filter_center(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("center", call, {"", "width"}, 1));
  Call centering{.args = {a.value(1, Value(int64_t{80}))}, .kwargs = {}};
  return call_text_method(e.budget(), soft_text(e, a[0]), "center", centering);
}

// The words begin after spaces, hyphens and opening brackets.
Result<Value> filter_title(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("title", call, {""}, 1));
  const std::string text = to_text(e.budget(), a[0]);
  const auto parts_words = [](char32_t c) { return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c); };
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    if (parts_words(char_at(text, i))) {
      end = next_char_at(text, i);
      out += text.substr(i, end - i);
    } else {
      while (end < text.size() && !parts_words(char_at(text, end))) end = next_char_at(text, end);
      const size_t first = next_char_at(text, i);
      out += upper(text.substr(i, first - i)) + lower(text.substr(first, end - first));
    }
    i = end;
  }
  return e.text(std::move(out));
}

Result<Value> filter_replace(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("replace", call, {"", "old", "new", "count"}, 3));
  const bool all = !a.given(3) || a[3].is(Kind::kNone);
  const auto count = a.integer(all ? 0 : 3, -1);
  if (!all && !count.ok()) return count.error();
  if (e.autoescape()) {
    const bool escape = a[1].is_safe() || (a[2].is_safe() && !a[0].is_safe());
    Call replacing{.args = {soft_text(e, a[1]), soft_text(e, a[2]), Value(all ? int64_t{-1} : *count)}, .kwargs = {}};
    return call_text_method(e.budget(), escape && !a[0].is_safe() ? e.text(escaped(to_text(e.budget(), a[0])), true) : soft_text(e, a[0]), "replace", replacing);
  }
  INGOT_ASSIGN(std::string out, replaced(e.budget(), a.as_text(e.budget(), 0), a.as_text(e.budget(), 1), a.as_text(e.budget(), 2), all ? -1 : *count));
  return e.text(std::move(out));
}

Result<Value> filter_string(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("string", call, {""}, 1));
  return soft_text(e, a[0]);
}

Result<Value> filter_safe(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("safe", call, {""}, 1));
  return e.text(to_text(e.budget(), a[0]), true);
}

Result<Value> filter_escape(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("escape", call, {""}, 1));
  return a[0].is_safe() ? a[0] : e.text(escaped(to_text(e.budget(), a[0])), true);
}

Result<Value> filter_forceescape(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("forceescape", call, {""}, 1));
  return e.text(escaped(to_text(e.budget(), a[0])), true);
}

Result<Value> filter_default(Evaluator&, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("default", call, {"", "default_value", "boolean"}, 1));
  if (!a[0].is(Kind::kUndefined) && !(a.boolean(2, false) && !truth(a[0]))) return a[0];
  return a[1];
}
Result<Value> filter_default_text(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Value v, filter_default(e, call));
  return v.given() ? v : e.text("");
}

Result<Value> filter_tojson(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("tojson", call, {"", "ensure_ascii", "indent", "separators", "sort_keys"}, 1));
  INGOT_ASSIGN(std::string out, to_json(e.budget(), a[0], a.boolean(1, false), a.value(2, Value::none()), a.value(3, Value::none()), a.boolean(4, false)));
  return e.text(std::move(out));
}

Result<Value> filter_indent(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("indent", call, {"", "width", "first", "blank"}, 1));
  INGOT_ASSIGN(const std::string text, a.text(0));
  std::string by;
  if (a.given(1) && a[1].is(Kind::kText)) {
    by = a[1].text();
  } else {
    INGOT_ASSIGN(const int64_t width, a.integer(1, 4));
    INGOT_ASSIGN(by, repeated(e.budget(), " ", width));
  }
  std::string out = a.boolean(2, false) ? by : "";
  const std::string all = text + "\n";
  bool first = true;
  for (const std::string_view line : split_lines(all)) {
    if (!first) out += '\n';
    if (!first && (a.boolean(3, false) || !line.empty())) out += by;
    out += line;
    INGOT_TRY(e.budget().room(out.size()));
    first = false;
  }
  return e.text(std::move(out), a[0].is_safe());
}

Result<Value> filter_truncate(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("truncate", call, {"", "length", "killwords", "end", "leeway"}, 1));
  INGOT_ASSIGN(const std::string text, a.text(0));
  INGOT_ASSIGN(const int64_t length, a.integer(1, 255));
  INGOT_ASSIGN(const std::string end, a.text(3, "..."));
  const bool usual = !a.given(4) || a[4].is(Kind::kNone);
  const auto leeway = a.integer(usual ? 0 : 4, 5);
  if (!usual && !leeway.ok()) return leeway.error();
  const auto ends = static_cast<int64_t>(count_chars(end));
  if (length < ends || (!usual && *leeway < 0)) return bad_input("truncate(): a length of at least {} and a leeway of at least 0 are needed", ends);
  if (static_cast<int64_t>(count_chars(text)) <= length + (usual ? 5 : *leeway)) return a[0];
  std::string out = text.substr(0, offset_of(text, static_cast<size_t>(length - ends)));
  if (!a.boolean(2, false))
    if (const size_t space = out.rfind(' '); space != std::string::npos) out.resize(space);
  return e.text(out + end);
}

Result<Value> filter_wordcount(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("wordcount", call, {""}, 1));
  return Value(static_cast<int64_t>(count_words(to_text(e.budget(), a[0]))));
}

Result<Value> filter_urlencode(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("urlencode", call, {""}, 1));
  const auto quoted = [&](const Value& v, bool query) {
    std::string out;
    for (const char c : to_text(e.budget(), v)) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("_.-~").find(c) != std::string_view::npos;
      if (plain || (c == '/' && !query)) out += c;
      else if (c == ' ' && query) out += '+';
      else out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
  };
  if (!a[0].is(Kind::kDict) && !a[0].is(Kind::kSequence)) return e.text(quoted(a[0], false));
  std::string out;
  const auto add = [&](const Value& key, const Value& value) {
    if (!out.empty()) out += '&';
    out.append(quoted(key, true)).append(1, '=').append(quoted(value, true));
  };
  if (a[0].is(Kind::kDict)) {
    for (const auto& [key, value] : a[0].dict().items) add(key, value);
    return e.text(std::move(out));
  }
  INGOT_ASSIGN(std::vector<Value> items, iterate(e.budget(), a[0]));
  for (Value& item : items) {
    INGOT_ASSIGN(const std::vector<Value> pair, iterate(e.budget(), item));
    if (pair.size() != 2) return bad_input("urlencode(): items of two values are needed");
    add(pair[0], pair[1]);
  }
  return e.text(std::move(out));
}

Result<Value> filter_filesizeformat(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("filesizeformat", call, {"", "binary"}, 1));
  const auto bytes = number_in(a[0]);
  if (!bytes) return bad_input("filesizeformat(): '{}' is no number", type_name(a[0]));
  const bool binary = a.boolean(1, false);
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) return e.text("1 Byte");
  if (*bytes < base) return e.text(fmt::format("{} Bytes", static_cast<int64_t>(*bytes)));
  double unit = base;
  std::string text;
  for (const char prefix : std::string_view("kMGTPEZY")) {
    unit *= base;
    text = fmt::format("{:.1f} {}{}", base * *bytes / unit, binary && prefix == 'k' ? 'K' : prefix, binary ? "iB" : "B");
    if (*bytes < unit) break;
  }
  return e.text(std::move(text));
}

Result<Value> filter_format(Evaluator& e, Call& call) {
  const Value self = soft_text(e, call.args[0]);
  call.args.erase(call.args.begin());
  if (!call.args.empty() && !call.kwargs.empty()) return bad_input("format() takes values either by place or by name");
  Value values;
  if (call.kwargs.empty()) {
    INGOT_ASSIGN(values, make_sequence(e.budget(), Flavor::kTuple, std::move(call.args)));
  } else {
    auto dict = std::make_shared<Dict>(e.budget());
    for (auto& [name, value] : call.kwargs) INGOT_TRY(dict->set(e.text(name), value));
    values = Value(Kind::kDict, std::move(dict));
  }
  return arithmetic(e, Op::kModulo, self, values);
}

// ---- numbers

Result<Value> filter_abs(Evaluator&, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("abs", call, {""}, 1));
  if (a[0].is(Kind::kFloat)) return Value(std::abs(a[0].real()));
  if (!a[0].is_integral()) return a[0].is(Kind::kUndefined) ? undefined_error(a[0]) : bad_input("abs(): '{}' is no number", type_name(a[0]));
  return a[0].integer() < 0 ? negative(a[0], true) : Value(a[0].integer());
}

// int() of Python for a text: spaces around, a sign, single underscores between digits, and with base 0, 2, 8 or 16 a prefix.
std::optional<int64_t> integer_in(std::string_view text, int64_t base) {
  std::string s(strip(text, Side::kBoth));
  const bool minus = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.erase(0, 1);
  const std::string head = lower(s.substr(0, 2));
  const int64_t of_prefix = head == "0x" ? 16 : head == "0o" ? 8 : head == "0b" ? 2 : 0;
  if (of_prefix && (base == 0 || base == of_prefix)) {
    base = of_prefix;
    s.erase(0, s.size() > 2 && s[2] == '_' ? 3 : 2);
  } else if (base == 0) {
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of("0_") != std::string::npos) return std::nullopt;
    base = 10;
  }
  if (s.empty() || s[0] == '_' || s.back() == '_' || s[0] == '-' || s.find("__") != std::string::npos || base < 2 || base > 36) return std::nullopt;
  std::erase(s, '_');
  int64_t n = 0;
  if (minus) s.insert(s.begin(), '-');
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n, static_cast<int>(base));
  if (error != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return n;
}

Result<Value> filter_int(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("int", call, {"", "default", "base"}, 1));
  INGOT_ASSIGN(const int64_t base, a.integer(2, 10));
  const Value& v = a[0];
  if (v.is(Kind::kUndefined)) return undefined_error(v);
  if (v.is_integral()) return Value(v.integer());
  if (v.is(Kind::kText))
    if (const auto n = integer_in(v.text(), base)) return Value(*n);
  const auto f = v.is(Kind::kFloat) || v.is(Kind::kText) ? number_in(v) : std::nullopt;
  if (v.is(Kind::kFloat) && std::isinf(v.real())) return bad_input("int(): the number is infinite");
  if (!f || !std::isfinite(*f)) return a.value(1, Value(int64_t{0}));
  if (std::abs(*f) >= 9.2e18) return bad_input("int(): the number needs more than 64 bits");
  (void)e;
  return Value(static_cast<int64_t>(*f));
}

Result<Value> filter_float(Evaluator&, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("float", call, {"", "default"}, 1));
  if (a[0].is(Kind::kUndefined)) return undefined_error(a[0]);
  const auto f = number_in(a[0]);
  return f ? Value(*f) : a.value(1, Value(0.0));
}

Result<Value> filter_round(Evaluator&, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("round", call, {"", "precision", "method"}, 1));
  INGOT_ASSIGN(const int64_t precision, a.integer(1, 0));
  INGOT_ASSIGN(const std::string method, a.text(2, "common"));
  if (method != "common" && method != "ceil" && method != "floor") return bad_input("round(): the method must be common, ceil or floor");
  if (!a[0].is_number()) return a[0].is(Kind::kUndefined) ? undefined_error(a[0]) : bad_input("round(): '{}' is no number", type_name(a[0]));
  const double f = a[0].real();
  if (precision > 300 || precision < -300) return bad_input("round(): a precision of {} is too much", precision);
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method != "common") return Value((method == "ceil" ? std::ceil(f * scale) : std::floor(f * scale)) / scale);
  if (a[0].is_integral() && precision >= 0) return Value(a[0].integer());
  if (precision < 0) {
    const double by = std::pow(10.0, static_cast<double>(-precision)), rounded = std::nearbyint(f / by) * by;
    return a[0].is_integral() ? Value(static_cast<int64_t>(rounded)) : Value(rounded);
  }
  if (!std::isfinite(f)) return Value(f);
  // printf rounds the number itself, not a product of it.
  return Value(std::strtod(fmt::format("{:.{}f}", f, precision).c_str(), nullptr));
}

constexpr NamedBuiltin kFilters[] = {
    {"abs", filter_abs}, {"capitalize", filter_capitalize}, {"center", filter_center}, {"d", filter_default_text}, {"default", filter_default_text},
    {"e", filter_escape}, {"escape", filter_escape}, {"filesizeformat", filter_filesizeformat}, {"float", filter_float},
    {"forceescape", filter_forceescape}, {"format", filter_format}, {"indent", filter_indent}, {"int", filter_int}, {"lower", filter_lower},
    {"replace", filter_replace}, {"round", filter_round}, {"safe", filter_safe}, {"string", filter_string}, {"title", filter_title},
    {"tojson", filter_tojson}, {"trim", filter_trim}, {"truncate", filter_truncate}, {"upper", filter_upper}, {"urlencode", filter_urlencode},
    {"wordcount", filter_wordcount}};

}  // namespace

std::optional<double> number_in(const Value& v) {
  if (v.is_number()) return v.real();
  if (!v.is(Kind::kText)) return std::nullopt;
  std::string s = lower(strip(v.text(), Side::kBoth));
  const std::string_view unsigned_part = std::string_view(s).substr(!s.empty() && (s[0] == '-' || s[0] == '+') ? 1 : 0);
  const bool word = unsigned_part == "inf" || unsigned_part == "infinity" || unsigned_part == "nan";
  if (!word) {
    if (s.find_first_not_of("0123456789+-.e_") != std::string::npos || unsigned_part.empty()) return std::nullopt;
    for (size_t i = 0; i < s.size(); ++i) {
      const auto digit = [&](size_t k) { return k < s.size() && s[k] >= '0' && s[k] <= '9'; };
      if (s[i] == '_' && !(i > 0 && digit(i - 1) && digit(i + 1))) return std::nullopt;
    }
    std::erase(s, '_');
  }
  char* end = nullptr;
  const double f = std::strtod(s.c_str(), &end);
  return *end == 0 && end != s.c_str() ? std::optional<double>(f) : std::nullopt;
}

Builtin find_filter(std::string_view name) {
  for (const NamedBuiltin& f : kFilters)
    if (f.name == name) return f.run;
  return find_sequence_filter(name);
}

}  // namespace ingot::jinja
