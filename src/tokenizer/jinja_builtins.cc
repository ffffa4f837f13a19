// Tests, and the functions that every template has.
#include <algorithm>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_functions.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {
namespace {

// ---- tests

template <class Is>
Result<Value> test_value(Call& call, const Is& is) {
  INGOT_ASSIGN(const Args a, Args::bind("the test", call, {""}, 1));
  return Value(is(a[0]));
}
template <Kind kind>
Result<Value> test_kind(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(kind); });
}
Result<Value> test_defined(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return !v.is(Kind::kUndefined); });
}
Result<Value> test_true(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(Kind::kBool) && v.boolean(); });
}
Result<Value> test_false(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(Kind::kBool) && !v.boolean(); });
}
Result<Value> test_number(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is_number(); });
}
Result<Value> test_escaped(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is_safe(); });
}
Result<Value> test_sequence(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) {
    return v.is(Kind::kText) || v.is(Kind::kDict) || v.is(Kind::kUndefined) || (v.is(Kind::kSequence) && v.sequence().indexed());
  });
}
Result<Value> test_iterable(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(Kind::kText) || v.is(Kind::kDict) || v.is(Kind::kUndefined) || v.is(Kind::kSequence); });
}
Result<Value> test_callable(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(Kind::kFunction) || v.is(Kind::kUndefined); });
}

Result<Value> test_case(Evaluator& e, Call& call, const char* method) {
  const Value self = e.text(to_text(e.budget(), call.args[0]));
  call.args.erase(call.args.begin());
  return call_text_method(e.budget(), self, method, call);
}
Result<Value> test_lower(Evaluator& e, Call& call) { return test_case(e, call, "islower"); }
Result<Value> test_upper(Evaluator& e, Call& call) { return test_case(e, call, "isupper"); }

Result<Value> test_remainder(Evaluator& e, const Value& v, const Value& by, int64_t remainder) {
  INGOT_ASSIGN(const Value r, arithmetic(e, Op::kModulo, v, by));
  return Value(equal(e.budget(), r, Value(remainder)));
}
Result<Value> test_odd(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("odd", call, {""}, 1));
  return test_remainder(e, a[0], Value(int64_t{2}), 1);
}
Result<Value> test_even(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("even", call, {""}, 1));
  return test_remainder(e, a[0], Value(int64_t{2}), 0);
}
Result<Value> test_divisibleby(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("divisibleby", call, {"", "num"}, 2));
  return test_remainder(e, a[0], a[1], 0);
}

template <Comparison comparison>
Result<Value> test_compare(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("the test", call, {"", ""}, 2));
  INGOT_ASSIGN(const bool yes, holds(e.budget(), comparison, a[0], a[1]));
  return Value(yes);
}

Result<Value> test_sameas(Evaluator&, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("sameas", call, {"", "other"}, 2));
  if (a[0].kind() != a[1].kind()) return Value(false);
  return Value(a[0].object() == a[1].object() && (!a[0].is_integral() || a[0].integer() == a[1].integer()) && !a[0].is(Kind::kFloat));
}

Result<Value> test_filter(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(Kind::kText) && find_filter(v.text()); });
}
Result<Value> test_test(Evaluator&, Call& call) {
  return test_value(call, [](const Value& v) { return v.is(Kind::kText) && find_test(v.text()); });
}

constexpr NamedBuiltin kTests[] = {
    {"defined", test_defined}, {"undefined", test_kind<Kind::kUndefined>}, {"none", test_kind<Kind::kNone>}, {"boolean", test_kind<Kind::kBool>},
    {"integer", test_kind<Kind::kInt>}, {"float", test_kind<Kind::kFloat>}, {"string", test_kind<Kind::kText>}, {"mapping", test_kind<Kind::kDict>},
    {"true", test_true}, {"false", test_false}, {"number", test_number}, {"sequence", test_sequence}, {"iterable", test_iterable},
    {"callable", test_callable}, {"escaped", test_escaped}, {"lower", test_lower}, {"upper", test_upper}, {"odd", test_odd}, {"even", test_even},
    {"divisibleby", test_divisibleby}, {"sameas", test_sameas}, {"filter", test_filter}, {"test", test_test}, {"in", test_compare<Comparison::kIn>},
    {"==", test_compare<Comparison::kEqual>}, {"eq", test_compare<Comparison::kEqual>}, {"equalto", test_compare<Comparison::kEqual>},
    {"!=", test_compare<Comparison::kUnequal>}, {"ne", test_compare<Comparison::kUnequal>}, {"<", test_compare<Comparison::kLess>},
    {"lt", test_compare<Comparison::kLess>}, {"lessthan", test_compare<Comparison::kLess>}, {"<=", test_compare<Comparison::kLessEqual>},
    {"le", test_compare<Comparison::kLessEqual>}, {">", test_compare<Comparison::kGreater>}, {"gt", test_compare<Comparison::kGreater>},
    {"greaterthan", test_compare<Comparison::kGreater>}, {">=", test_compare<Comparison::kGreaterEqual>}, {"ge", test_compare<Comparison::kGreaterEqual>}};

// ---- functions

Result<Value> range(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("range", call, {"", "", ""}, 1));
  INGOT_ASSIGN(const int64_t first, a.integer(0, 0));
  INGOT_ASSIGN(const int64_t second, a.integer(1, 0));
  INGOT_ASSIGN(const int64_t step, a.integer(2, 1));
  return make_range(e.budget(), a.given(1) ? first : 0, a.given(1) ? second : first, step);
}

// dict(): of another dict or of pairs, and of names.
Result<std::shared_ptr<Dict>> new_dict(Evaluator& e, Call& call) {
  auto dict = std::make_shared<Dict>(e.budget());
  if (call.args.size() > 1) return bad_input("dict() takes at most one argument without a name");
  for (Value& from : call.args) {
    if (from.is(Kind::kDict)) {
      for (const auto& [key, value] : from.dict().items) INGOT_TRY(dict->set(key, value));
      continue;
    }
    if (from.is(Kind::kUndefined)) return undefined_error(from);
    INGOT_ASSIGN(std::vector<Value> pairs, iterate(e.budget(), from));
    for (Value& pair : pairs) {
      INGOT_ASSIGN(std::vector<Value> two, iterate(e.budget(), pair));
      if (two.size() != 2) return bad_input("dict(): items of two values are needed, one has {}", two.size());
      INGOT_TRY(dict->set(two[0], two[1]));
    }
  }
  for (auto& [name, value] : call.kwargs) INGOT_TRY(dict->set(e.text(name), value));
  return dict;
}

Result<Value> dict(Evaluator& e, Call& call) {
  INGOT_ASSIGN(auto made, new_dict(e, call));
  return Value(Kind::kDict, std::move(made));
}

Result<Value> name_space(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const auto made, new_dict(e, call));
  Value space = e.name_space();
  for (const auto& [key, value] : made->items) {
    if (!key.is(Kind::kText)) return bad_input("namespace(): the names must be texts");
    INGOT_TRY(set_in(e.budget(), space.name_space(), key.text(), value));
  }
  return space;
}

// A function with attributes.
struct WithAttributes : Function {
  using Function::Function;
  Result<Value> attribute(std::string_view name) override { return find ? find(name) : Value(); }
  std::function<Result<Value>(std::string_view)> find;
};

Result<Value> cycler(Evaluator& e, Call& call) {
  if (call.args.empty() || !call.kwargs.empty()) return bad_input("cycler() needs values");
  const auto items = call.args;
  auto at = std::make_shared<size_t>(0);
  auto made = std::make_shared<WithAttributes>(e.budget(), "cycler", [](Call&) -> Result<Value> { return bad_input("a cycler is no function: use its next()"); });
  e.budget().count(items.size() * sizeof(Value));
  made->grow(items.size() * sizeof(Value));
  INGOT_ASSIGN(made->depth, depth_over(items));
  made->find = [&e, items, at](std::string_view name) -> Result<Value> {
    if (name == "current") return items[*at];
    const bool next = name == "next";
    if (!next && name != "reset") return Value();
    return e.function(std::string(name), [items, at, next](Call&) -> Result<Value> {
      const Value v = next ? items[*at] : Value::none();
      *at = next ? (*at + 1) % items.size() : 0;
      return v;
    }, items);
  };
  return Value(Kind::kFunction, std::move(made));
}

Result<Value> joiner(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("joiner", call, {"sep"}));
  const Value between = a.given(0) ? a[0] : e.text(", ");
  auto used = std::make_shared<bool>(false);
  return e.function("joiner", [&e, between, used](Call&) -> Result<Value> { return std::exchange(*used, true) ? between : e.text(""); }, {between});
}

Result<Value> raise_exception(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("raise_exception", call, {"message"}, 1));
  return bad_input("the template refuses: {}", to_text(e.budget(), a[0]));
}

Result<Value> strftime_now(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("strftime_now", call, {"format"}, 1));
  INGOT_ASSIGN(const std::string format, a.text(0));
  if (format.size() > 1000) return bad_input("strftime_now(): a format of {} bytes", format.size());
  std::tm now{};
  std::timespec present{};
  if (e.now()) {
    now = *e.now();
  } else {
    std::timespec_get(&present, TIME_UTC);
    ::localtime_r(&present.tv_sec, &now);
  }
  // What Python does before the C library: its time knows no zone, and microseconds.
  std::string known;
  for (size_t i = 0; i < format.size(); ++i) {
    const char next = format[i] == '%' && i + 1 < format.size() ? format[i + 1] : '\0';
    if (next == 'f') known += fmt::format("{:06}", present.tv_nsec / 1000);
    else if (next != 'z' && next != 'Z') known.append(format, i, next ? 2 : 1);
    i += next ? 1 : 0;
  }
  std::string out(64 * known.size() + 64, '\0');
  out.resize(std::strftime(out.data(), out.size(), known.c_str(), &now));
  return e.text(std::move(out));
}

constexpr NamedBuiltin kFunctions[] = {{"range", range}, {"dict", dict}, {"namespace", name_space}, {"cycler", cycler}, {"joiner", joiner},
                                       {"raise_exception", raise_exception}, {"strftime_now", strftime_now}};

}  // namespace

Builtin find_test(std::string_view name) {
  for (const NamedBuiltin& t : kTests)
    if (t.name == name) return t.run;
  return nullptr;
}

Status add_globals(Evaluator& e, Dict* globals) {
  for (const NamedBuiltin& f : kFunctions) {
    INGOT_ASSIGN(Value v, e.function(std::string(f.name), [&e, run = f.run](Call& call) { return run(e, call); }));
    INGOT_TRY(globals->set(e.text(std::string(f.name)), std::move(v)));
  }
  return {};
}

Status set_in(Budget& b, Namespace& space, std::string_view name, Value value) {
  if (name.starts_with('_')) return bad_input("the attribute '{}' of a namespace begins with '_', which is not allowed", name);
  return space.values->set(make_text(b, std::string(name)), std::move(value));
}

}  // namespace ingot::jinja
