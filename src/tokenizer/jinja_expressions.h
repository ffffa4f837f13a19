// Expressions of Jinja's grammar, and what its statements (jinja_parser.cc) share with them.
#pragma once

#include <algorithm>

#include "tokenizer/jinja_lexer.h"
#include "tokenizer/jinja_parser.h"

namespace ingot::jinja {

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, Budget& budget) : tokens_(std::move(tokens)), budget_(budget) {}

 protected:
  static constexpr int kMaxDepth = 150;       // of brackets, and of statements in statements
  static constexpr int kMaxExpression = 400;  // of operators: a + b + c is 3 deep

  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool is_op(std::string_view op) const { return now().type == Token::kOperator && now().text == op; }
  bool is_name(std::string_view name) const { return now().type == Token::kName && now().text == name; }
  bool take_op(std::string_view op) { return is_op(op) && ++at_; }
  bool take_name(std::string_view name) { return is_name(name) && ++at_; }
  Error fail(const std::string& what) const { return template_error(now().line, what); }
  Error unexpected(std::string_view expected) const;
  Status expect_op(std::string_view op);
  Status expect_end(Token::Type type);
  Result<std::string> expect_name(std::string_view what);

  // true, false, none; kMissing for any other name.
  static Value constant_of(std::string_view name);
  Result<ExpressionPtr> expression();
  // One expression, or several with commas, up to the name `end`. `conditions`: it may have an if; else that is the statement's own.
  Result<ExpressionPtr> tuple(bool conditions, std::string_view end, bool in_brackets = false);
  // The filters that follow `e`; `started`: the first one without its '|'.
  Result<ExpressionPtr> filters(ExpressionPtr e, bool started);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  bool soft_ = false;               // in an if: what is unknown there fails once it is reached
  std::vector<Error> unknown_;      // filters and tests elsewhere
  std::vector<std::string> loads_;  // every name that was read

 private:
  ExpressionPtr make(Op op, int line) const;
  // With one operand more.
  Status add(ExpressionPtr& e, ExpressionPtr operand);
  // An operator of one operand, as yet.
  Result<ExpressionPtr> over(Op op, ExpressionPtr operand, int line);
  Status add(ExpressionPtr& e, Result<ExpressionPtr> operand);
  using Level = Result<ExpressionPtr> (ExpressionParser::*)();
  // Operators of one level, from left to right. `op_of` takes one, or gives kConstant.
  template <class OpOf>
  Result<ExpressionPtr> from_left(Level operand, const OpOf& op_of);
  Result<ExpressionPtr> condition();
  Result<ExpressionPtr> either();
  Result<ExpressionPtr> both();
  Result<ExpressionPtr> sum();
  Result<ExpressionPtr> product();
  Result<ExpressionPtr> power();
  Result<ExpressionPtr> filtered();
  Result<ExpressionPtr> negated();
  Result<ExpressionPtr> comparison();
  Result<ExpressionPtr> joined();
  Result<ExpressionPtr> unary(bool with_filters);
  Result<ExpressionPtr> primary();
  Result<ExpressionPtr> postfix(ExpressionPtr e);
  Status subscript(ExpressionPtr& e);
  Result<ExpressionPtr> called(ExpressionPtr e);
  Status arguments(ExpressionPtr& e);
  Result<std::string> dotted(std::string_view what);
  void note_unknown(int line, const char* kind, std::string_view name);
  Result<ExpressionPtr> test(ExpressionPtr tested);

  Budget& budget_;
};

}  // namespace ingot::jinja
