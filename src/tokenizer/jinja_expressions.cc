#include "tokenizer/jinja_expressions.h"

#include "tokenizer/text.h"

namespace ingot::jinja {

Error ExpressionParser::unexpected(std::string_view expected) const {
  static constexpr std::string_view kTypes[] = {"the template's text", "'{{'", "'}}'", "'{%'", "'%}'", "", "", "", "", "", "the end of the template"};
  const std::string_view type = kTypes[now().type];
  return fail(fmt::format("expected {}, found {}", expected, type.empty() ? quoted(std::string_view(now().text)) : std::string(type)));
}

Status ExpressionParser::expect_op(std::string_view op) { return take_op(op) ? Status() : Status(unexpected(fmt::format("'{}'", op))); }

Status ExpressionParser::expect_end(Token::Type type) {
  if (now().type != type) return unexpected(type == Token::kPrintEnd ? "'}}'" : "'%}'");
  ++at_;
  return {};
}

Result<std::string> ExpressionParser::expect_name(std::string_view what) {
  if (now().type != Token::kName) return unexpected(what);
  return tokens_[at_++].text;
}

ExpressionPtr ExpressionParser::make(Op op, int line) const {
  auto e = std::make_unique<Expression>();
  e->op = op;
  e->line = line;
  return e;
}
Status ExpressionParser::add(ExpressionPtr& e, ExpressionPtr operand) {
  if (operand) e->depth = std::max(e->depth, operand->depth + 1);
  if (e->depth > kMaxExpression) return template_error(e->line, fmt::format("an expression is deeper than {} levels", kMaxExpression));
  e->operands.push_back(std::move(operand));
  return {};
}
Result<ExpressionPtr> ExpressionParser::over(Op op, ExpressionPtr operand, int line) {
  auto e = make(op, line);
  INGOT_TRY(add(e, std::move(operand)));
  return e;
}
Status ExpressionParser::add(ExpressionPtr& e, Result<ExpressionPtr> operand) {
  if (!operand.ok()) return operand.take_error();
  return add(e, std::move(*operand));
}

// Everything in brackets passes here.
Result<ExpressionPtr> ExpressionParser::expression() {
  if (++depth_ > kMaxDepth) return fail(fmt::format("brackets are nested deeper than {} levels", kMaxDepth));
  auto e = condition();
  --depth_;
  return e;
}

Result<ExpressionPtr> ExpressionParser::condition() {
  const size_t unknown = unknown_.size();
  INGOT_ASSIGN(ExpressionPtr e, either());
  while (is_name("if")) {
    const int line = tokens_[at_++].line;
    auto c = make(Op::kCondition, line);
    INGOT_TRY(add(c, either()));
    INGOT_TRY(add(c, std::move(e)));
    if (take_name("else")) INGOT_TRY(add(c, expression()));
    else c->operands.push_back(nullptr);
    e = std::move(c);
    unknown_.resize(unknown, Error{});
  }
  return e;
}

template <class OpOf>
Result<ExpressionPtr> ExpressionParser::from_left(Level operand, const OpOf& op_of) {
  INGOT_ASSIGN(ExpressionPtr e, (this->*operand)());
  for (;;) {
    const int line = now().line;
    const Op op = op_of();
    if (op == Op::kConstant) return e;
    INGOT_ASSIGN(e, over(op, std::move(e), line));
    INGOT_TRY(add(e, (this->*operand)()));
  }
}
Result<ExpressionPtr> ExpressionParser::either() { return from_left(&ExpressionParser::both, [&] { return take_name("or") ? Op::kOr : Op::kConstant; }); }
Result<ExpressionPtr> ExpressionParser::both() { return from_left(&ExpressionParser::negated, [&] { return take_name("and") ? Op::kAnd : Op::kConstant; }); }
Result<ExpressionPtr> ExpressionParser::sum() { return from_left(&ExpressionParser::joined, [&] { return take_op("+") ? Op::kAdd : take_op("-") ? Op::kSubtract : Op::kConstant; }); }
Result<ExpressionPtr> ExpressionParser::product() {
  return from_left(&ExpressionParser::power, [&] {
    return take_op("*") ? Op::kMultiply : take_op("/") ? Op::kDivide : take_op("//") ? Op::kFloorDivide : take_op("%") ? Op::kModulo : Op::kConstant;
  });
}
Result<ExpressionPtr> ExpressionParser::power() { return from_left(&ExpressionParser::filtered, [&] { return take_op("**") ? Op::kPower : Op::kConstant; }); }
Result<ExpressionPtr> ExpressionParser::filtered() { return unary(true); }

Result<ExpressionPtr> ExpressionParser::negated() {
  const int line = now().line;
  int times = 0;
  while (take_name("not")) ++times;
  INGOT_ASSIGN(ExpressionPtr e, comparison());
  for (; times > 0; --times) {
    INGOT_ASSIGN(e, over(Op::kNot, std::move(e), line));
  }
  return e;
}

Result<ExpressionPtr> ExpressionParser::comparison() {
  static constexpr std::pair<std::string_view, Comparison> kSigns[] = {
      {"==", Comparison::kEqual},   {"!=", Comparison::kUnequal}, {"<=", Comparison::kLessEqual}, {">=", Comparison::kGreaterEqual},
      {"<", Comparison::kLess},     {">", Comparison::kGreater}};
  INGOT_ASSIGN(ExpressionPtr e, sum());
  ExpressionPtr all;
  for (;;) {
    const int line = now().line;
    Comparison c = Comparison::kIn;
    const auto sign = std::find_if(std::begin(kSigns), std::end(kSigns), [&](const auto& s) { return is_op(s.first); });
    if (sign != std::end(kSigns)) {
      ++at_;
      c = sign->second;
    } else if (is_name("not") && next().type == Token::kName && next().text == "in") {
      at_ += 2;
      c = Comparison::kNotIn;
    } else if (!take_name("in")) {
      return all ? std::move(all) : std::move(e);
    }
    if (!all) {
      INGOT_ASSIGN(all, over(Op::kCompare, std::move(e), line));
    }
    all->comparisons.push_back(c);
    INGOT_TRY(add(all, sum()));
  }
}

Result<ExpressionPtr> ExpressionParser::joined() {
  INGOT_ASSIGN(ExpressionPtr e, product());
  if (!is_op("~")) return e;
  INGOT_ASSIGN(ExpressionPtr all, over(Op::kConcat, std::move(e), now().line));
  while (take_op("~")) INGOT_TRY(add(all, product()));
  return all;
}

Result<ExpressionPtr> ExpressionParser::unary(bool with_filters) {
  const int line = now().line;
  ExpressionPtr e;
  if (is_op("-") || is_op("+")) {
    const Op op = tokens_[at_++].text == "-" ? Op::kNegative : Op::kPositive;
    if (++depth_ > kMaxDepth) return fail("signs are nested too deep");
    INGOT_ASSIGN(ExpressionPtr operand, unary(false));
    --depth_;
    INGOT_ASSIGN(e, over(op, std::move(operand), line));
  } else {
    INGOT_ASSIGN(e, primary());
  }
  INGOT_ASSIGN(e, postfix(std::move(e)));
  while (with_filters) {
    if (is_op("|")) {
      INGOT_ASSIGN(e, filters(std::move(e), false));
    } else if (is_name("is")) {
      INGOT_ASSIGN(e, test(std::move(e)));
    } else if (is_op("(")) {
      INGOT_ASSIGN(e, called(std::move(e)));
    } else {
      break;
    }
  }
  return e;
}

Value ExpressionParser::constant_of(std::string_view name) {
  if (name == "true" || name == "True") return Value(true);
  if (name == "false" || name == "False") return Value(false);
  return name == "none" || name == "None" ? Value::none() : Value();
}

Result<ExpressionPtr> ExpressionParser::primary() {
  const Token& t = now();
  auto e = make(Op::kConstant, t.line);
  switch (t.type) {
    case Token::kName:
      e->constant = constant_of(t.text);
      if (!e->constant.given()) {
        e->op = Op::kName;
        e->name = t.text;
        loads_.push_back(t.text);
      }
      ++at_;
      return e;
    case Token::kText: {
      std::string text;
      while (now().type == Token::kText) text += tokens_[at_++].text;
      e->constant = make_text(budget_, std::move(text));
      return e;
    }
    case Token::kInteger:
      e->constant = Value(tokens_[at_++].integer);
      return e;
    case Token::kFloat:
      e->constant = Value(tokens_[at_++].real);
      return e;
    default:
      break;
  }
  if (take_op("(")) {
    INGOT_ASSIGN(ExpressionPtr inner, tuple(true, {}, true));
    INGOT_TRY(expect_op(")"));
    return inner;
  }
  const bool dict = is_op("{");
  if (!take_op("[") && !take_op("{")) return unexpected("an expression");
  e->op = dict ? Op::kDict : Op::kList;
  const std::string_view end = dict ? "}" : "]";
  while (!take_op(end)) {
    if (!e->operands.empty()) {
      INGOT_TRY(expect_op(","));
      if (take_op(end)) break;
    }
    INGOT_TRY(add(e, expression()));
    if (!dict) continue;
    INGOT_TRY(expect_op(":"));
    INGOT_TRY(add(e, expression()));
  }
  return e;
}

Result<ExpressionPtr> ExpressionParser::tuple(bool conditions, std::string_view end, bool in_brackets) {
  auto all = make(Op::kTuple, now().line);
  bool is_tuple = false;
  for (;;) {
    if (!all->operands.empty() && !take_op(",")) break;
    is_tuple = is_tuple || !all->operands.empty();
    if (now().type == Token::kPrintEnd || now().type == Token::kBlockEnd || is_op(")") || (!end.empty() && is_name(end))) break;
    INGOT_TRY(add(all, conditions ? expression() : either()));
  }
  if (is_tuple) return all;
  if (!all->operands.empty()) return std::move(all->operands[0]);
  if (!in_brackets) return unexpected("an expression");
  return all;
}

Result<ExpressionPtr> ExpressionParser::postfix(ExpressionPtr e) {
  for (;;) {
    const int line = now().line;
    if (is_op("(")) {
      INGOT_ASSIGN(e, called(std::move(e)));
    } else if (take_op(".")) {
      if (now().type == Token::kInteger) {
        auto index = make(Op::kConstant, line);
        index->constant = Value(tokens_[at_++].integer);
        INGOT_ASSIGN(e, over(Op::kItem, std::move(e), line));
        INGOT_TRY(add(e, std::move(index)));
      } else {
        INGOT_ASSIGN(std::string name, expect_name("the name of an attribute"));
        INGOT_ASSIGN(e, over(Op::kAttribute, std::move(e), line));
        e->name = std::move(name);
      }
    } else if (take_op("[")) {
      INGOT_ASSIGN(e, over(Op::kItem, std::move(e), line));
      INGOT_TRY(subscript(e));
    } else {
      return e;
    }
  }
}

Status ExpressionParser::subscript(ExpressionPtr& e) {
  auto all = make(Op::kTuple, e->line);
  while (!take_op("]")) {
    if (!all->operands.empty()) INGOT_TRY(expect_op(","));
    ExpressionPtr first;
    if (!is_op(":")) {
      INGOT_ASSIGN(first, expression());
    }
    if (!is_op(":")) {
      INGOT_TRY(add(all, std::move(first)));
      continue;
    }
    auto slice = make(Op::kSlice, e->line);
    INGOT_TRY(add(slice, std::move(first)));
    for (int i = 0; i < 2; ++i) {
      ExpressionPtr part;
      if (take_op(":") && !is_op(":") && !is_op("]") && !is_op(",")) {
        INGOT_ASSIGN(part, expression());
      }
      INGOT_TRY(add(slice, std::move(part)));
    }
    INGOT_TRY(add(all, std::move(slice)));
  }
  return all->operands.size() == 1 ? add(e, std::move(all->operands[0])) : add(e, std::move(all));
}

Result<ExpressionPtr> ExpressionParser::called(ExpressionPtr e) {
  INGOT_ASSIGN(ExpressionPtr call, over(Op::kCall, std::move(e), now().line));
  INGOT_TRY(arguments(call));
  return call;
}

Status ExpressionParser::arguments(ExpressionPtr& e) {
  const int line = now().line;
  INGOT_TRY(expect_op("("));
  for (bool first = true; !is_op(")"); first = false) {
    if (!first) {
      INGOT_TRY(expect_op(","));
      if (is_op(")")) break;
    }
    const bool keyword = now().type == Token::kName && next().type == Token::kOperator && next().text == "=";
    bool order = !e->more_keywords;
    if (take_op("*")) {
      order = order && !e->more_args;
      INGOT_ASSIGN(e->more_args, expression());
      e->depth = std::max(e->depth, e->more_args->depth + 1);
    } else if (take_op("**")) {
      INGOT_ASSIGN(e->more_keywords, expression());
      e->depth = std::max(e->depth, e->more_keywords->depth + 1);
    } else if (keyword) {
      std::string name = now().text;
      at_ += 2;
      INGOT_ASSIGN(ExpressionPtr value, expression());
      e->depth = std::max(e->depth, value->depth + 1);
      e->keywords.emplace_back(std::move(name), std::move(value));
    } else {
      order = order && !e->more_args && e->keywords.empty();
      INGOT_TRY(add(e, expression()));
    }
    if (!order || e->depth > kMaxExpression) return template_error(line, order ? "an expression is too deep" : "the arguments of a call are in a wrong order");
  }
  ++at_;
  return {};
}

Result<ExpressionPtr> ExpressionParser::filters(ExpressionPtr e, bool started) {
  while (started || take_op("|")) {
    started = false;
    const int line = now().line;
    INGOT_ASSIGN(std::string name, dotted("the name of a filter"));
    INGOT_ASSIGN(e, over(Op::kFilter, std::move(e), line));
    e->name = std::move(name);
    if (is_op("(")) INGOT_TRY(arguments(e));
    e->builtin = find_filter(e->name);
    if (!e->builtin) note_unknown(line, "filter", e->name);
  }
  return e;
}

Result<std::string> ExpressionParser::dotted(std::string_view what) {
  INGOT_ASSIGN(std::string name, expect_name(what));
  while (take_op(".")) {
    INGOT_ASSIGN(const std::string more, expect_name(what));
    name += "." + more;
  }
  return name;
}

void ExpressionParser::note_unknown(int line, const char* kind, std::string_view name) {
  if (!soft_) unknown_.push_back(template_error(line, fmt::format("there is no {} named {}", kind, quoted(name))));
}

Result<ExpressionPtr> ExpressionParser::test(ExpressionPtr tested) {
  const int line = tokens_[at_++].line;
  const bool negative = take_name("not");
  INGOT_ASSIGN(std::string name, dotted("the name of a test"));
  INGOT_ASSIGN(ExpressionPtr e, over(Op::kTest, std::move(tested), line));
  e->name = std::move(name);
  const Token& t = now();
  const bool literal = t.type == Token::kName || t.type == Token::kText || t.type == Token::kInteger || t.type == Token::kFloat || is_op("[") || is_op("{");
  if (is_op("(")) {
    INGOT_TRY(arguments(e));
  } else if (literal && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) return fail("tests with 'is' cannot follow each other");
    INGOT_ASSIGN(ExpressionPtr argument, primary());
    INGOT_TRY(add(e, postfix(std::move(argument))));
  }
  e->builtin = find_test(e->name);
  if (!e->builtin) note_unknown(line, "test", e->name);
  if (negative) return over(Op::kNot, std::move(e), line);
  return e;
}

}  // namespace ingot::jinja
