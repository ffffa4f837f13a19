// Operators, and the methods of lists and dicts.
#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_functions.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {
namespace {

Error no_operator(const char* op, const Value& x, const Value& y) { return bad_input("'{}' and '{}' have no operator {}", type_name(x), type_name(y), op); }
Error too_large() { return bad_input("a result needs more than 64 bits"); }

const char* sign_of(Op op) {
  switch (op) {
    case Op::kAdd:
      return "+";
    case Op::kSubtract:
      return "-";
    case Op::kMultiply:
      return "*";
    case Op::kDivide:
      return "/";
    case Op::kFloorDivide:
      return "//";
    case Op::kModulo:
      return "%";
    default:
      return "**";
  }
}

double floor_mod(double x, double y) {
  const double m = std::fmod(x, y);
  return m != 0 && (m < 0) != (y < 0) ? m + y : m == 0 ? std::copysign(0.0, y) : m;
}

Result<Value> integers(Op op, int64_t x, int64_t y) {
  int64_t r = 0;
  switch (op) {
    case Op::kAdd:
      return __builtin_add_overflow(x, y, &r) ? Result<Value>(too_large()) : Value(r);
    case Op::kSubtract:
      return __builtin_sub_overflow(x, y, &r) ? Result<Value>(too_large()) : Value(r);
    case Op::kMultiply:
      return __builtin_mul_overflow(x, y, &r) ? Result<Value>(too_large()) : Value(r);
    case Op::kDivide:
      if (y == 0) return bad_input("division by zero");
      return Value(static_cast<double>(static_cast<long double>(x) / static_cast<long double>(y)));
    case Op::kFloorDivide:
    case Op::kModulo:
      if (y == 0) return bad_input("division by zero");
      if (y == -1) return op == Op::kModulo ? Value(int64_t{0}) : integers(Op::kSubtract, 0, x);
      r = x % y;
      if (r != 0 && (r < 0) != (y < 0)) return Value(op == Op::kModulo ? r + y : x / y - 1);
      return Value(op == Op::kModulo ? r : x / y);
    default:
      if (y < 0) {
        if (x == 0) return bad_input("zero has no negative power");
        return Value(std::pow(static_cast<double>(x), static_cast<double>(y)));
      }
      r = 1;
      if (x == 0 || x == 1) return Value(y == 0 ? int64_t{1} : x);
      if (x == -1) return Value(y % 2 == 0 ? int64_t{1} : int64_t{-1});
      for (; y > 0; --y)
        if (__builtin_mul_overflow(r, x, &r)) return too_large();
      return Value(r);
  }
}

Result<Value> reals(Op op, double x, double y) {
  switch (op) {
    case Op::kAdd:
      return Value(x + y);
    case Op::kSubtract:
      return Value(x - y);
    case Op::kMultiply:
      return Value(x * y);
    case Op::kPower: {
      if (x == 0 && y < 0) return bad_input("zero has no negative power");
      const double p = std::pow(x, y);
      if (x < 0 && std::isnan(p)) return bad_input("a root of a negative number");
      if (std::isinf(p) && std::isfinite(x) && std::isfinite(y)) return bad_input("a result is too large for a float");
      return Value(p);
    }
    default:
      break;
  }
  if (y == 0) return bad_input("division by zero");
  if (op == Op::kDivide) return Value(x / y);
  const double m = floor_mod(x, y);
  if (op == Op::kModulo) return Value(m);
  const double q = (x - m) / y, f = std::floor(q);
  return Value(q - f > 0.5 ? f + 1 : f);
}

Result<Value> repeated_sequence(Evaluator& e, const Sequence& s, int64_t times) {
  std::vector<Value> items;
  uint64_t n = 0;
  times = std::max<int64_t>(times, 0);
  if (__builtin_mul_overflow(s.items.size() * sizeof(Value), static_cast<uint64_t>(times), &n)) n = UINT64_MAX / 2;
  INGOT_TRY(e.budget().room(n));
  for (; times > 0 && !s.items.empty(); --times) items.insert(items.end(), s.items.begin(), s.items.end());
  return make_sequence(e.budget(), s.flavor, std::move(items));
}

bool is_plain(const Value& v) { return v.is(Kind::kSequence) && (v.sequence().flavor == Flavor::kList || v.sequence().flavor == Flavor::kTuple); }

}  // namespace

Result<Value> arithmetic(Evaluator& e, Op op, const Value& x, const Value& y) {
  if (x.is_integral() && y.is_integral()) return integers(op, x.integer(), y.integer());
  if (x.is_number() && y.is_number()) return reals(op, x.real(), y.real());
  for (const Value* v : {&x, &y})
    if (v->is(Kind::kUndefined) && !(op == Op::kModulo && x.is(Kind::kText))) return undefined_error(*v);
  if (op == Op::kModulo && x.is(Kind::kText)) {
    INGOT_ASSIGN(std::string out, format_percent(e.budget(), x.text(), y));
    return e.text(std::move(out), x.is_safe());
  }
  if (op == Op::kAdd && x.is(Kind::kText) && y.is(Kind::kText)) {
    INGOT_TRY(e.budget().room(x.text().size() + y.text().size()));
    const bool safe = x.is_safe() || y.is_safe();
    const auto part = [&](const Value& v) { return safe && !v.is_safe() ? escaped(v.text()) : v.text(); };
    return e.text(part(x) + part(y), safe);
  }
  if (op == Op::kAdd && is_plain(x) && is_plain(y) && x.sequence().flavor == y.sequence().flavor) {
    std::vector<Value> items = x.sequence().items;
    items.insert(items.end(), y.sequence().items.begin(), y.sequence().items.end());
    INGOT_TRY(e.budget().room(items.size() * sizeof(Value)));
    return make_sequence(e.budget(), x.sequence().flavor, std::move(items));
  }
  if (op == Op::kMultiply) {
    const Value& times = x.is_integral() ? x : y;
    const Value& what = x.is_integral() ? y : x;
    if (times.is_integral() && what.is(Kind::kText)) {
      INGOT_ASSIGN(std::string out, repeated(e.budget(), what.text(), times.integer()));
      return e.text(std::move(out), what.is_safe());
    }
    if (times.is_integral() && is_plain(what)) return repeated_sequence(e, what.sequence(), times.integer());
  }
  return no_operator(sign_of(op), x, y);
}

Result<Value> negative(const Value& x, bool change) {
  if (x.is(Kind::kUndefined)) return undefined_error(x);
  if (x.is(Kind::kFloat)) return Value(change ? -x.real() : x.real());
  if (!x.is_integral()) return bad_input("'{}' has no sign", type_name(x));
  return change ? integers(Op::kSubtract, 0, x.integer()) : Value(x.integer());
}

Result<bool> holds(Budget& b, Comparison c, const Value& x, Value& y) {
  if (c == Comparison::kEqual) return equal(b, x, y);
  if (c == Comparison::kUnequal) return !equal(b, x, y);
  if (c == Comparison::kIn || c == Comparison::kNotIn) {
    INGOT_ASSIGN(const bool in, contains(b, y, x));
    return in == (c == Comparison::kIn);
  }
  INGOT_ASSIGN(const int order, compare(b, x, y));
  switch (c) {
    case Comparison::kLess:
      return order < 0;
    case Comparison::kLessEqual:
      return order <= 0;
    case Comparison::kGreater:
      return order == 1;
    default:
      return order == 0 || order == 1;
  }
}

Result<Value> sliced(Evaluator& e, const Value& of, const Value& start, const Value& stop, const Value& step) {
  if (of.is(Kind::kUndefined)) return undefined_error(of);
  const bool text = of.is(Kind::kText);
  if (!text && !(of.is(Kind::kSequence) && of.sequence().indexed())) return bad_input("'{}' cannot be sliced", type_name(of));
  for (const Value* v : {&start, &stop, &step})
    if (!v->is_integral() && !v->is(Kind::kNone)) return bad_input("the bounds of a slice must be integers or none, not '{}'", type_name(*v));
  const int64_t by = step.is(Kind::kNone) ? 1 : step.integer();
  if (by == 0) return bad_input("the step of a slice is zero");
  if (text) e.budget().count(of.text().size());
  const auto n = static_cast<int64_t>(text ? count_chars(of.text()) : of.sequence().items.size());
  const auto bound = [&](const Value& v, int64_t otherwise) {
    if (v.is(Kind::kNone)) return otherwise;
    const int64_t i = v.integer() < 0 ? v.integer() + n : v.integer();
    return std::clamp<int64_t>(i, by < 0 ? -1 : 0, by < 0 ? n - 1 : n);
  };
  const int64_t first = bound(start, by < 0 ? n - 1 : 0), last = bound(stop, by < 0 ? -1 : n);
  std::vector<int64_t> picked;
  if (text && by == 1) {
    const size_t begin = offset_of(of.text(), static_cast<size_t>(first));
    const size_t end = last > first ? begin + offset_of(std::string_view(of.text()).substr(begin), static_cast<size_t>(last - first)) : begin;
    return e.text(of.text().substr(begin, end - begin), of.is_safe());
  }
  for (int64_t i = first; by > 0 ? i < last : i > last;) {
    picked.push_back(i);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  INGOT_TRY(e.budget().spend(static_cast<int64_t>(picked.size())));
  if (text) {
    std::vector<size_t> offsets;
    for (size_t i = 0; i < of.text().size(); i = next_char_at(of.text(), i)) offsets.push_back(i);
    std::string out;
    for (const int64_t i : picked) out += of.text().substr(offsets[static_cast<size_t>(i)], next_char_at(of.text(), offsets[static_cast<size_t>(i)]) - offsets[static_cast<size_t>(i)]);
    return e.text(std::move(out), of.is_safe());
  }
  std::vector<Value> items;
  for (const int64_t i : picked) items.push_back(of.sequence().items[static_cast<size_t>(i)]);
  if (of.sequence().flavor == Flavor::kRange) return make_range(e.budget(), of.sequence().start + first * of.sequence().step, of.sequence().start + last * of.sequence().step, of.sequence().step * by);
  return make_sequence(e.budget(), of.sequence().flavor, std::move(items));
}

Result<Value> make_range(Budget& b, int64_t start, int64_t stop, int64_t step) {
  constexpr uint64_t kMaxRange = 100'000;  // of Jinja's sandbox
  if (step == 0) return bad_input("range(): the step is zero");
  const uint64_t span = step > 0 ? (stop > start ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start) : 0)
                                 : (start > stop ? static_cast<uint64_t>(start) - static_cast<uint64_t>(stop) : 0);
  const uint64_t by = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const uint64_t n = span == 0 ? 0 : (span - 1) / by + 1;
  if (n > kMaxRange) return bad_input("range(): more than {} numbers", kMaxRange);
  std::vector<Value> items;
  for (uint64_t i = 0; i < n; ++i) items.push_back(Value(static_cast<int64_t>(static_cast<uint64_t>(start) + i * static_cast<uint64_t>(step))));
  INGOT_ASSIGN(Value v, make_sequence(b, Flavor::kRange, std::move(items)));
  v.sequence().start = start;
  v.sequence().step = step;
  v.sequence().name = fmt::format("range({}, {}{})", start, stop, step == 1 ? "" : fmt::format(", {}", step));
  return v;
}

// ---- methods

namespace {

constexpr std::string_view kDictMethods[] = {"get", "items", "keys", "values", "copy"};
constexpr std::string_view kSequenceMethods[] = {"index", "count", "copy"};
constexpr std::string_view kDictChanging[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListChanging[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};

template <class List>
bool among(const List& list, std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

Result<Value> call_dict_method(Evaluator& e, const Value& of, std::string_view name, Call& call) {
  const Dict& dict = of.dict();
  if (name == "get") {
    INGOT_ASSIGN(const Args a, Args::bind(name, call, {"", ""}, 1));
    INGOT_TRY(hash(a[0]));
    const Value* v = dict.find(a[0]);
    return v ? *v : a.value(1, Value::none());
  }
  INGOT_ASSIGN(const Args none, Args::bind(name, call, {}));
  if (name == "copy") return of;
  std::vector<Value> items;
  INGOT_TRY(e.budget().room(dict.items.size() * 2 * sizeof(Value)));
  for (const auto& [key, value] : dict.items) {
    if (name == "keys") items.push_back(key);
    else if (name == "values") items.push_back(value);
    else {
      INGOT_ASSIGN(Value pair, make_sequence(e.budget(), Flavor::kTuple, {key, value}));
      items.push_back(std::move(pair));
    }
  }
  INGOT_ASSIGN(Value v, make_sequence(e.budget(), Flavor::kView, std::move(items)));
  v.sequence().name = "dict_" + std::string(name);
  return v;
}

Result<Value> call_sequence_method(Evaluator& e, const Value& of, std::string_view name, Call& call) {
  const Sequence& s = of.sequence();
  if (name == "copy") {
    INGOT_ASSIGN(const Args none, Args::bind(name, call, {}));
    return of;
  }
  INGOT_ASSIGN(const Args a, Args::bind(name, call, {"", "", ""}, 1));
  int64_t n = 0;
  for (size_t i = 0; i < s.items.size(); ++i) {
    if (!equal(e.budget(), s.items[i], a[0])) continue;
    if (name == "index") return Value(static_cast<int64_t>(i));
    ++n;
  }
  if (name == "index") return bad_input("index(): the value is not in the {}", type_name(of));
  return Value(n);
}

}  // namespace

bool is_method(const Value& of, std::string_view name) {
  if (of.is(Kind::kText)) return name == "format" || name == "format_map" || is_text_method(name);
  if (of.is(Kind::kDict)) return among(kDictMethods, name);
  return of.is(Kind::kSequence) && of.sequence().indexed() && among(kSequenceMethods, name) && (name != "copy" || of.sequence().flavor == Flavor::kList);
}

bool is_changing_method(const Value& of, std::string_view name) {
  return of.is(Kind::kDict) ? among(kDictChanging, name) : of.is(Kind::kSequence) && of.sequence().flavor == Flavor::kList && among(kListChanging, name);
}

Result<Value> call_method(Evaluator& e, const Value& of, std::string_view name, Call& call) {
  if (of.is(Kind::kDict)) return call_dict_method(e, of, name, call);
  if (of.is(Kind::kSequence)) return call_sequence_method(e, of, name, call);
  if (name != "format" && name != "format_map") return call_text_method(e.budget(), of, name, call);
  if (name == "format_map") {
    if (call.args.size() != 1 || !call.kwargs.empty() || !call.args[0].is(Kind::kDict)) return bad_input("format_map() takes one dict");
    const Value map = call.args[0];
    call.args.clear();
    for (const auto& [key, value] : map.dict().items)
      if (key.is(Kind::kText)) call.kwargs.emplace_back(key.text(), value);
  }
  INGOT_ASSIGN(std::string out, format_text(e.budget(), of.text(), call, [&](Value& v, const Value& key, bool attribute) {
    return attribute ? e.attribute(v, key.text()) : e.item(v, key);
  }));
  return e.text(std::move(out), of.is_safe());
}

}  // namespace ingot::jinja
