// Macros and loops as values.
#pragma once

#include "tokenizer/jinja_eval.h"

namespace ingot::jinja {

struct Macro : Function {
  Macro(Evaluator& e, const Statement& s, Scope* where, std::string name) : Function(e.budget(), std::move(name)), evaluator(e), statement(s), scope(where) {}
  Result<Value> call(Call& call) override;
  std::string repr() override { return "<Macro " + (name.empty() ? "anonymous" : "'" + name + "'") + ">"; }
  Evaluator& evaluator;
  const Statement& statement;
  Scope* scope;
};

// What the name `loop` stands for.
struct Loop : Function, std::enable_shared_from_this<Loop> {
  Loop(Evaluator& evaluator, const Statement& statement, Scope* where, int depth)
      : Function(evaluator.budget(), "loop"), e(evaluator), s(statement), outer(where), depth0(depth) {}
  Result<Value> call(Call& call) override;
  Result<Value> attribute(std::string_view name) override;
  std::string repr() override;
  Result<Value> pull();
  Status peek();
  Result<int64_t> length();

  Evaluator& e;
  const Statement& s;
  Scope* outer;
  std::vector<Value> source;
  size_t next = 0;
  bool filtered = false, peeked = false, alive = true;
  Value before, current, after, last;
  int64_t index0 = -1, total = -1, depth0 = 0;
};

// An attribute of a namespace.
Status set_in(Budget& b, Namespace& space, std::string_view name, Value value);

}  // namespace ingot::jinja
