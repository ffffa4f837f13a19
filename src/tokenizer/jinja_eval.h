// Runs a parsed template. Errors carry no line: line() is where it stopped.
#pragma once

#include <ctime>
#include <deque>
#include <optional>

#include "tokenizer/jinja_parser.h"

namespace ingot::jinja {

// The names of a part of a template; what a macro has seen lives to the end.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> names;
  bool kept = false;
};

struct Macro;
struct Loop;

class Evaluator {
 public:
  // `variables` is a dict of what the template is given; `now` what strftime_now tells, the present without.
  Evaluator(Budget& budget, Value variables, std::optional<std::tm> now);
  ~Evaluator();

  Result<std::string> run(const Block& block);
  int line() const { return line_; }

  // For builtins.
  Budget& budget() { return budget_; }
  Result<Value> call(const Value& callee, Call& call);
  Result<Value> attribute(const Value& of, std::string_view name, bool items = true);  // of.name; `items`: or of['name']
  Result<Value> item(const Value& of, const Value& key);                               // of[key]
  // "a.b.0", as filters name attributes; `otherwise` stands for each that is undefined.
  Result<Value> path(const Value& of, const Value& attributes, const Value& otherwise = {});
  const std::optional<std::tm>& now() const { return now_; }
  bool autoescape() const { return autoescape_; }
  Value text(std::string text, bool safe = false) { return make_text(budget_, std::move(text), safe); }
  Value undefined(std::string message) { return make_undefined(budget_, std::move(message)); }
  // `holds`: what `run` keeps.
  Result<Value> function(std::string name, Function::Run run, const std::vector<Value>& holds = {});
  Value name_space();  // a new one
  // `safe`: what is not safe is escaped, and the whole is safe.
  Result<Value> joined(const std::vector<Value>& values, const Value& between, bool safe);

 private:
  friend struct Macro;
  friend struct Loop;
  enum class Flow { kNext, kBreak, kContinue };
  static constexpr int kMaxDepth = 600;  // statements, expressions and calls in each other

  Scope* open(Scope* parent);
  void close(Scope* scope);
  void assign(std::string_view name, Value value);
  Status assign(const Target& target, Value value);
  Value lookup(const std::string& name);

  Result<Flow> execute(const Block& block);
  Result<Flow> execute(const Statement& s);
  Result<Flow> if_statement(const Statement& s);
  Result<Flow> scoped(const Block& block);
  Result<Flow> set_statement(const Statement& s);
  Status call_block(const Statement& s);
  Result<Flow> filter_block(const Statement& s);
  Result<Flow> named_block(const Statement& s);
  Result<Flow> escaping(const Statement& s);
  Result<Flow> with_statement(const Statement& s);
  Result<Flow> loop(const Statement& s, Value over, Scope* outer, int depth);
  Value macro(const Statement& s, const char* name);
  Result<Value> run_macro(const Macro& macro, Call& call);
  Status write(std::string_view text);
  Status print(const Value& v);
  // What `run` writes, as a text.
  template <class Run>
  Result<Value> captured(const Run& run);
  Result<Value> captured_block(const Block& block, Flow* flow);

  Result<Value> evaluate(const Expression& e);
  Result<Value> evaluate_inner(const Expression& e);
  Result<Value> collection(const Expression& e);
  Result<Value> slice(const Expression& e);
  Result<Value> compared(const Expression& e);
  Result<Value> call_expression(const Expression& e, const Value* caller);
  Result<Value> builtin(const Expression& e);
  Status arguments(const Expression& e, Call* call);

  Budget& budget_;
  std::optional<std::tm> now_;
  Value variables_;
  std::shared_ptr<Dict> globals_;
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // they may hold each other: emptied at the end
  Scope *scope_ = nullptr, *root_ = nullptr;
  bool autoescape_ = false;
  Value filtered_;  // what the filters of a block are applied to
  std::string* out_ = nullptr;
  int line_ = 1;
  int depth_ = 0;
};

// Op::kAdd and its like.
Result<Value> arithmetic(Evaluator& e, Op op, const Value& x, const Value& y);
Result<Value> negative(const Value& x, bool change);
Result<Value> sliced(Evaluator& e, const Value& of, const Value& start, const Value& stop, const Value& step);
Result<bool> holds(Budget& b, Comparison c, const Value& x, Value& y);
Result<Value> make_range(Budget& b, int64_t start, int64_t stop, int64_t step);
// The methods of texts, lists and dicts. One that would change what it belongs to is none.
bool is_method(const Value& of, std::string_view name);
bool is_changing_method(const Value& of, std::string_view name);
Result<Value> call_method(Evaluator& e, const Value& of, std::string_view name, Call& call);
// range, namespace, raise_exception and the others.
Status add_globals(Evaluator& e, Dict* globals);
// json.dumps, and back.
Result<std::string> to_json(Budget& b, const Value& v, bool ascii, const Value& indent, const Value& separators, bool sorted);

}  // namespace ingot::jinja
