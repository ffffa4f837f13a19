// Expressions.
#include <algorithm>

#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_functions.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {

Result<Value> Evaluator::evaluate(const Expression& e) {
  if (e.op == Op::kConstant) return e.constant;
  line_ = e.line;
  INGOT_TRY(budget_.spend());
  if (++depth_ > kMaxDepth) return bad_input("expressions and calls are nested deeper than {} levels", kMaxDepth);
  auto v = evaluate_inner(e);
  --depth_;
  return v;
}

Result<Value> Evaluator::evaluate_inner(const Expression& e) {
  const auto operand = [&](size_t i) { return evaluate(*e.operands[i]); };
  switch (e.op) {
    case Op::kConstant:
      return e.constant;
    case Op::kName:
      return lookup(e.name);
    case Op::kList:
    case Op::kTuple:
    case Op::kDict:
    case Op::kConcat:
      return collection(e);
    case Op::kSlice:
      return bad_input("a slice stands among other keys");
    case Op::kAttribute: {
      INGOT_ASSIGN(const Value of, operand(0));
      return attribute(of, e.name);
    }
    case Op::kItem: {
      if (e.operands[1]->op == Op::kSlice) return slice(e);
      INGOT_ASSIGN(const Value of, operand(0));
      INGOT_ASSIGN(const Value key, operand(1));
      return item(of, key);
    }
    case Op::kCall:
      return call_expression(e, nullptr);
    case Op::kFilter:
    case Op::kTest:
      return builtin(e);
    case Op::kNot: {
      INGOT_ASSIGN(const Value v, operand(0));
      return Value(!truth(v));
    }
    case Op::kAnd:
    case Op::kOr: {
      INGOT_ASSIGN(Value v, operand(0));
      if (truth(v) == (e.op == Op::kOr)) return v;
      return operand(1);
    }
    case Op::kCondition: {
      INGOT_ASSIGN(const Value v, operand(0));
      if (truth(v)) return operand(1);
      if (e.operands[2]) return operand(2);
      return undefined(fmt::format("the if of line {} is false and has no else", e.line));
    }
    case Op::kCompare:
      return compared(e);
    case Op::kNegative:
    case Op::kPositive: {
      INGOT_ASSIGN(const Value v, operand(0));
      return negative(v, e.op == Op::kNegative);
    }
    default: {
      INGOT_ASSIGN(const Value x, operand(0));
      INGOT_ASSIGN(const Value y, operand(1));
      return arithmetic(*this, e.op, x, y);
    }
  }
}

Result<Value> Evaluator::joined(const std::vector<Value>& values, const Value& between, bool safe) {
  const auto shown = [&](const Value& v) { return safe && !v.is_safe() ? escaped(to_text(budget_, v)) : to_text(budget_, v); };
  const std::string separator = shown(between);
  std::string out;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += separator;
    if (safe) out += shown(values[i]);
    else append_text(budget_, values[i], &out);
    INGOT_TRY(budget_.room(out.size()));
  }
  return text(std::move(out), safe);
}

Result<Value> Evaluator::collection(const Expression& e) {
  if (e.op == Op::kConcat) {
    std::vector<Value> values;
    for (const auto& operand : e.operands) {
      INGOT_ASSIGN(Value v, evaluate(*operand));
      values.push_back(std::move(v));
    }
    const bool safe = autoescape_ && std::any_of(values.begin(), values.end(), [](const Value& v) { return v.is_safe(); });
    return joined(values, text(""), safe);
  }
  if (e.op == Op::kDict) {
    auto dict = std::make_shared<Dict>(budget_);
    for (size_t i = 0; i < e.operands.size(); i += 2) {
      INGOT_ASSIGN(const Value key, evaluate(*e.operands[i]));
      INGOT_ASSIGN(Value value, evaluate(*e.operands[i + 1]));
      INGOT_TRY(dict->set(key, std::move(value)));
    }
    return Value(Kind::kDict, std::move(dict));
  }
  std::vector<Value> items;
  for (const auto& operand : e.operands) {
    INGOT_ASSIGN(Value v, evaluate(*operand));
    items.push_back(std::move(v));
  }
  return make_sequence(budget_, e.op == Op::kList ? Flavor::kList : Flavor::kTuple, std::move(items));
}

Result<Value> Evaluator::slice(const Expression& e) {
  INGOT_ASSIGN(const Value of, evaluate(*e.operands[0]));
  Value parts[3] = {Value::none(), Value::none(), Value::none()};
  for (size_t i = 0; i < 3; ++i)
    if (const auto& part = e.operands[1]->operands[i]) {
      INGOT_ASSIGN(parts[i], evaluate(*part));
    }
  return sliced(*this, of, parts[0], parts[1], parts[2]);
}

Result<Value> Evaluator::compared(const Expression& e) {
  INGOT_ASSIGN(Value left, evaluate(*e.operands[0]));
  for (size_t i = 0; i < e.comparisons.size(); ++i) {
    INGOT_ASSIGN(Value right, evaluate(*e.operands[i + 1]));
    INGOT_ASSIGN(const bool yes, holds(budget_, e.comparisons[i], left, right));
    if (!yes) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Status Evaluator::arguments(const Expression& e, Call* call) {
  for (size_t i = 1; i < e.operands.size(); ++i) {
    INGOT_ASSIGN(Value v, evaluate(*e.operands[i]));
    call->args.push_back(std::move(v));
  }
  if (e.more_args) {
    INGOT_ASSIGN(Value more, evaluate(*e.more_args));
    INGOT_ASSIGN(std::vector<Value> items, iterate(budget_, more));
    call->args.insert(call->args.end(), items.begin(), items.end());
  }
  for (const auto& [name, value] : e.keywords) {
    INGOT_ASSIGN(Value v, evaluate(*value));
    call->kwargs.emplace_back(name, std::move(v));
  }
  if (e.more_keywords) {
    INGOT_ASSIGN(const Value more, evaluate(*e.more_keywords));
    if (!more.is(Kind::kDict)) return bad_input("what follows '**' must be a dict, not '{}'", type_name(more));
    for (const auto& [name, value] : more.dict().items) {
      if (!name.is(Kind::kText)) return bad_input("the keys of what follows '**' must be texts");
      call->kwargs.emplace_back(name.text(), value);
    }
  }
  for (size_t i = 1; i < call->kwargs.size(); ++i)
    for (size_t j = 0; j < i && i < 64; ++j)
      if (call->kwargs[i].first == call->kwargs[j].first) return bad_input("the argument '{}' is given twice", call->kwargs[i].first);
  return {};
}

Result<Value> Evaluator::call_expression(const Expression& e, const Value* caller) {
  const Expression& callee = *e.operands[0];
  const int line = e.line;
  Call call;
  Value of, function;
  if (callee.op == Op::kAttribute) {
    // A method is called without becoming a value.
    INGOT_ASSIGN(of, evaluate(*callee.operands[0]));
    const bool known = (of.is(Kind::kText) || of.is(Kind::kDict)) && is_method(of, callee.name);
    if (!known) {
      INGOT_ASSIGN(function, attribute(of, callee.name));
    }
  } else {
    INGOT_ASSIGN(function, evaluate(callee));
  }
  INGOT_TRY(arguments(e, &call));
  if (caller) call.kwargs.emplace_back("caller", *caller);
  line_ = line;
  return function.given() ? this->call(function, call) : call_method(*this, of, callee.name, call);
}

Result<Value> Evaluator::call(const Value& callee, Call& call) {
  if (callee.is(Kind::kUndefined)) return undefined_error(callee);
  if (!callee.is(Kind::kFunction)) return bad_input("'{}' is called, but is no function", type_name(callee));
  const Value keep = callee;  // a function may take away the last name that it has
  return keep.function().call(call);
}

Result<Value> Evaluator::builtin(const Expression& e) {
  Call call;
  call.args.resize(1);
  if (e.operands[0]) {
    INGOT_ASSIGN(call.args[0], evaluate(*e.operands[0]));
  } else {
    call.args[0] = filtered_;
  }
  INGOT_TRY(arguments(e, &call));
  line_ = e.line;
  if (!e.builtin) return bad_input("there is no {} named '{}'", e.op == Op::kFilter ? "filter" : "test", e.name);
  return e.builtin(*this, call);
}

Result<Value> Evaluator::attribute(const Value& of, std::string_view name, bool items) {
  switch (of.kind()) {
    case Kind::kUndefined:
      return undefined_error(of);
    case Kind::kNamespace:
      if (const Value* v = of.name_space().values->find(name)) return *v;
      break;
    case Kind::kFunction: {
      INGOT_ASSIGN(Value v, of.function().attribute(name));
      if (v.given()) return v;
      break;
    }
    case Kind::kSequence:
      if (of.sequence().group && (name == "grouper" || name == "list")) return of.sequence().items[name == "list"];
      [[fallthrough]];
    case Kind::kText:
    case Kind::kDict:
      if (is_method(of, name)) {
        const std::string method(name);
        return function(method, [this, of, method](Call& call) { return call_method(*this, of, method, call); }, {of});
      }
      if (is_changing_method(of, name)) return undefined(fmt::format("'{}' of a {} is not allowed: a template changes nothing", name, type_name(of)));
      if (items && of.is(Kind::kDict))
        if (const Value* v = of.dict().find(name)) return *v;
      break;
    default:
      break;
  }
  return undefined(fmt::format("'{}' has no attribute '{}'", type_name(of), name));
}

Result<Value> Evaluator::item(const Value& of, const Value& key) {
  if (of.is(Kind::kUndefined)) return undefined_error(of);
  const auto at = [&](size_t n) {
    int64_t i = key.integer();
    if (i < 0) i += static_cast<int64_t>(n);
    return i >= 0 && static_cast<uint64_t>(i) < n ? std::optional<size_t>(static_cast<size_t>(i)) : std::nullopt;
  };
  if (of.is(Kind::kDict)) {
    if (const Value* v = hash(key).ok() ? of.dict().find(key) : nullptr) return *v;
  } else if (key.is_integral() && of.is(Kind::kSequence) && of.sequence().indexed()) {
    if (const auto i = at(of.sequence().items.size())) return of.sequence().items[*i];
  } else if (key.is_integral() && of.is(Kind::kText)) {
    const std::string& s = of.text();
    budget_.count(s.size());
    if (const auto i = at(count_chars(s))) {
      const size_t begin = offset_of(s, *i);
      return text(s.substr(begin, next_char_at(s, begin) - begin), of.is_safe());
    }
  }
  if (key.is(Kind::kText)) return attribute(of, key.text(), false);
  std::string shown;
  append_repr(budget_, key, &shown);
  return undefined(fmt::format("'{}' has no element {}", type_name(of), shown.substr(0, 80)));
}

Result<Value> Evaluator::path(const Value& of, const Value& attributes, const Value& otherwise) {
  if (attributes.is(Kind::kNone)) return of;
  const auto step = [&](const Value& from, const Value& key) -> Result<Value> {
    INGOT_ASSIGN(Value v, item(from, key));
    return v.is(Kind::kUndefined) && otherwise.given() && !otherwise.is(Kind::kNone) ? otherwise : v;
  };
  if (!attributes.is(Kind::kText)) return step(of, attributes);
  Value v = of;
  for (const std::string_view part : split_text(attributes.text(), ".")) {
    const bool number = !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string_view::npos;
    INGOT_ASSIGN(v, step(v, number ? Value(static_cast<int64_t>(std::stoll(std::string(part)))) : text(std::string(part))));
  }
  return v;
}

}  // namespace ingot::jinja
