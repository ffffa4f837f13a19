// Statements; expressions are in jinja_evaluate.cc.
#include "tokenizer/jinja_eval.h"

#include <algorithm>

#include "tokenizer/jinja_functions.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {

Evaluator::Evaluator(Budget& budget, Value variables, std::optional<std::tm> now)
    : budget_(budget), now_(now), variables_(std::move(variables)), globals_(std::make_shared<Dict>(budget)) {}

Evaluator::~Evaluator() {
  for (const auto& n : namespaces_) n->values.reset();
}

Result<Value> Evaluator::function(std::string name, Function::Run run, const std::vector<Value>& holds) {
  auto function = std::make_shared<Function>(budget_, std::move(name), std::move(run));
  INGOT_ASSIGN(function->depth, depth_over(holds));
  return Value(Kind::kFunction, std::move(function));
}

Value Evaluator::name_space() {
  namespaces_.push_back(std::make_shared<Namespace>(budget_));
  return Value(Kind::kNamespace, namespaces_.back());
}

Result<std::string> Evaluator::run(const Block& block) {
  INGOT_TRY(add_globals(*this, globals_.get()));
  std::string out;
  out_ = &out;
  scope_ = root_ = open(nullptr);
  for (const auto& [name, value] : variables_.dict().items) assign(name.text(), value);
  INGOT_TRY(execute(block));
  INGOT_TRY(budget_.spend());  // what only counted before
  return out;
}

// ---- names

Scope* Evaluator::open(Scope* parent) {
  Scope* scope = nullptr;
  if (!free_scopes_.empty()) {
    scope = free_scopes_.back();
    free_scopes_.pop_back();
  } else {
    scope = &scopes_.emplace_back();
    budget_.bytes += sizeof(Scope) + 64;
  }
  scope->parent = parent;
  return scope;
}

void Evaluator::close(Scope* scope) {
  if (scope->kept) return;
  budget_.bytes -= static_cast<int64_t>(scope->names.size() * 48);
  scope->names.clear();
  free_scopes_.push_back(scope);
}

void Evaluator::assign(std::string_view name, Value value) {
  for (auto& [known, old] : scope_->names)
    if (known == name) {
      old = std::move(value);
      return;
    }
  scope_->names.emplace_back(name, std::move(value));
  budget_.bytes += 48;
}

Status Evaluator::assign(const Target& target, Value value) {
  if (target.tuple) {
    INGOT_ASSIGN(std::vector<Value> items, iterate(budget_, value));
    if (items.size() != target.parts.size())
      return bad_input("{} values cannot be assigned to {} names", items.size(), target.parts.size());
    for (size_t i = 0; i < items.size(); ++i) INGOT_TRY(assign(target.parts[i], std::move(items[i])));
    return {};
  }
  if (target.attribute.empty()) {
    assign(target.name, std::move(value));
    return {};
  }
  const Value space = lookup(target.name);
  if (!space.is(Kind::kNamespace))
    return bad_input("'{}.{}' cannot be assigned to: '{}' is no namespace, but '{}'", target.name, target.attribute, target.name, type_name(space));
  return set_in(budget_, space.name_space(), target.attribute, std::move(value));
}

Value Evaluator::lookup(const std::string& name) {
  for (const Scope* s = scope_; s; s = s->parent)
    for (const auto& [known, value] : s->names)
      if (known == name) return value;
  if (const Value* v = globals_->find(name)) return *v;
  return undefined(fmt::format("'{}' is undefined", name));
}

// ---- statements

Status Evaluator::write(std::string_view text) {
  INGOT_TRY(budget_.room(text.size()));
  budget_.count(text.size());
  budget_.bytes += static_cast<int64_t>(text.size());
  *out_ += text;
  return {};
}

template <class Run>
Result<Value> Evaluator::captured(const Run& run) {
  std::string text;
  std::string* const before = std::exchange(out_, &text);
  const Status status = run();
  out_ = before;
  budget_.bytes -= static_cast<int64_t>(text.size());
  if (!status.ok()) return status.error();
  return this->text(std::move(text), autoescape_);
}

Status Evaluator::print(const Value& v) {
  if (autoescape_ && !v.is_safe()) return write(escaped(to_text(budget_, v)));
  return v.is(Kind::kText) ? write(v.text()) : write(to_text(budget_, v));
}

Result<Evaluator::Flow> Evaluator::execute(const Block& block) {
  if (++depth_ > kMaxDepth) return bad_input("statements and calls are nested deeper than {} levels", kMaxDepth);
  for (const auto& s : block) {
    INGOT_ASSIGN(const Flow flow, execute(*s));
    if (flow != Flow::kNext) {
      --depth_;
      return flow;
    }
  }
  --depth_;
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::execute(const Statement& s) {
  line_ = s.line;
  INGOT_TRY(budget_.spend());
  switch (s.tag) {
    case Tag::kText:
      INGOT_TRY(write(s.text));
      return Flow::kNext;
    case Tag::kPrint:
      for (const auto& e : s.values) {
        INGOT_ASSIGN(const Value v, evaluate(*e));
        INGOT_TRY(print(v));
      }
      return Flow::kNext;
    case Tag::kIf:
      return if_statement(s);
    case Tag::kFor: {
      INGOT_ASSIGN(Value over, evaluate(*s.values[0]));
      return loop(s, std::move(over), scope_, 0);
    }
    case Tag::kSet:
    case Tag::kSetBlock:
      return set_statement(s);
    case Tag::kMacro:
      assign(s.text, macro(s, s.text.c_str()));
      return Flow::kNext;
    case Tag::kCallBlock:
      INGOT_TRY(call_block(s));
      return Flow::kNext;
    case Tag::kFilterBlock:
      return filter_block(s);
    case Tag::kWith:
      return with_statement(s);
    case Tag::kGeneration:
      return scoped(s.bodies[0]);
    case Tag::kBlock:
      return named_block(s);
    case Tag::kAutoescape:
      return escaping(s);
    case Tag::kBreak:
      return Flow::kBreak;
    case Tag::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::if_statement(const Statement& s) {
  for (size_t i = 0; i < s.bodies.size(); ++i) {
    if (i < s.values.size()) {
      INGOT_ASSIGN(const Value v, evaluate(*s.values[i]));
      if (!truth(v)) continue;
    }
    return execute(s.bodies[i]);
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::scoped(const Block& block) {
  Scope* const outer = scope_;
  scope_ = open(outer);
  auto flow = execute(block);
  close(scope_);
  scope_ = outer;
  return flow;
}

// Without a template that extends this one a block is rendered where it stands. It sees the names of the whole template, and with `scoped` those around it.
Result<Evaluator::Flow> Evaluator::named_block(const Statement& s) {
  if (s.required) return bad_input("the block '{}' is required: a template that extends this one is to fill it", s.text);
  Scope* const outer = std::exchange(scope_, s.scoped ? scope_ : root_);
  const bool before = std::exchange(autoescape_, false);
  auto flow = scoped(s.bodies[0]);
  scope_ = outer;
  autoescape_ = before;
  return flow;
}

Result<Evaluator::Flow> Evaluator::escaping(const Statement& s) {
  INGOT_ASSIGN(const Value v, evaluate(*s.values[0]));
  const bool before = std::exchange(autoescape_, truth(v));
  auto flow = scoped(s.bodies[0]);
  autoescape_ = before;
  return flow;
}

// A break or continue leaves without an assignment or a text.
Result<Evaluator::Flow> Evaluator::set_statement(const Statement& s) {
  Value value;
  if (s.tag == Tag::kSet) {
    INGOT_ASSIGN(value, evaluate(*s.values[0]));
  } else {
    Flow flow = Flow::kNext;
    INGOT_ASSIGN(value, captured_block(s.bodies[0], &flow));
    if (flow != Flow::kNext) return flow;
    if (!s.values.empty()) {
      filtered_ = std::move(value);
      INGOT_ASSIGN(value, evaluate(*s.values[0]));
    }
  }
  INGOT_TRY(assign(s.targets[0], std::move(value)));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::filter_block(const Statement& s) {
  Flow flow = Flow::kNext;
  INGOT_ASSIGN(filtered_, captured_block(s.bodies[0], &flow));
  if (flow != Flow::kNext) return flow;
  INGOT_ASSIGN(const Value v, evaluate(*s.values[0]));
  INGOT_TRY(write(to_text(budget_, v)));
  return Flow::kNext;
}

Result<Value> Evaluator::captured_block(const Block& block, Flow* flow) {
  return captured([&]() -> Status {
    INGOT_ASSIGN(*flow, scoped(block));
    return {};
  });
}

Result<Evaluator::Flow> Evaluator::with_statement(const Statement& s) {
  std::vector<Value> values;
  for (const auto& e : s.values) {
    INGOT_ASSIGN(Value v, evaluate(*e));
    values.push_back(std::move(v));
  }
  Scope* const outer = scope_;
  scope_ = open(outer);
  for (size_t i = 0; i < values.size(); ++i) INGOT_TRY(assign(s.targets[i], std::move(values[i])));
  auto flow = execute(s.bodies[0]);
  close(scope_);
  scope_ = outer;
  return flow;
}

// ---- macros

Value Evaluator::macro(const Statement& s, const char* name) {
  for (Scope* scope = scope_; scope && !scope->kept; scope = scope->parent) scope->kept = true;
  return Value(Kind::kFunction, std::make_shared<Macro>(*this, s, scope_, name));
}

Status Evaluator::call_block(const Statement& s) {
  const Value caller = macro(s, "caller");
  INGOT_ASSIGN(const Value v, call_expression(*s.values[0], &caller));
  return print(v);
}

Result<Value> Evaluator::run_macro(const Macro& macro, Call& call) {
  const Statement& s = macro.statement;
  const size_t n = s.parameters.size();
  std::vector<Value> given(n);
  for (size_t i = 0; i < std::min(n, call.args.size()); ++i) given[i] = call.args[i];
  Value caller;
  auto more = std::make_shared<Dict>(budget_);
  for (auto& [name, value] : call.kwargs) {
    const auto it = std::find(s.parameters.begin() + static_cast<ptrdiff_t>(std::min(n, call.args.size())), s.parameters.end(), name);
    if (it != s.parameters.end()) given[static_cast<size_t>(it - s.parameters.begin())] = value;
    else if (name == "caller" && s.uses_caller) caller = value;
    else if (s.uses_kwargs) INGOT_TRY(more->set(text(name), value));
    else return bad_input("the macro '{}' has no parameter '{}'", macro.name, name);
  }
  if (call.args.size() > n && !s.uses_varargs) return bad_input("the macro '{}' takes at most {} arguments, {} were given", macro.name, n, call.args.size());

  const int line = line_;
  Scope* const outer = std::exchange(scope_, open(macro.scope));
  const auto body = [&]() -> Status {
    if (s.uses_caller) assign("caller", caller.given() ? caller : undefined("there is no caller"));
    if (s.uses_kwargs) assign("kwargs", Value(Kind::kDict, more));
    if (s.uses_varargs) {
      std::vector<Value> rest(call.args.begin() + static_cast<ptrdiff_t>(std::min(n, call.args.size())), call.args.end());
      INGOT_ASSIGN(Value tuple, make_sequence(budget_, Flavor::kTuple, std::move(rest)));
      assign("varargs", std::move(tuple));
    }
    for (size_t i = 0; i < n; ++i)
      assign(s.parameters[i], given[i].given() ? given[i] : undefined(fmt::format("parameter '{}' was not provided", s.parameters[i])));
    // A default sees the parameters, and those that come after it are undefined.
    for (size_t i = n - s.defaults.size(); i < n; ++i) {
      if (given[i].given()) continue;
      INGOT_ASSIGN(Value v, evaluate(*s.defaults[i - (n - s.defaults.size())]));
      assign(s.parameters[i], std::move(v));
    }
    INGOT_TRY(execute(s.bodies[0]));
    return {};
  };
  auto result = captured(body);
  if (!result.ok()) return result;
  close(scope_);
  scope_ = outer;
  line_ = line;
  return result;
}

Result<Value> Macro::call(Call& call) { return evaluator.run_macro(*this, call); }

// ---- loops

// The next item that the loop's condition lets through; kMissing: there is none.
Result<Value> Loop::pull() {
  while (next < source.size()) {
    Value v = source[next++];
    if (!filtered || !alive) return v;
    Scope* const before = std::exchange(e.scope_, e.open(outer));
    INGOT_TRY(e.assign(s.targets[0], v));
    INGOT_ASSIGN(const Value holds, e.evaluate(*s.values[1]));
    e.close(e.scope_);
    e.scope_ = before;
    if (truth(holds)) return v;
  }
  return Value();
}

Status Loop::peek() {
  if (peeked) return {};
  INGOT_ASSIGN(after, pull());
  peeked = true;
  return {};
}

Result<int64_t> Loop::length() {
  if (total >= 0) return total;
  std::vector<Value> rest;
  while (filtered) {
    INGOT_ASSIGN(Value v, pull());
    if (!v.given()) break;
    rest.push_back(std::move(v));
  }
  if (filtered) {
    source = std::move(rest);
    next = 0;
    filtered = false;
    total = static_cast<int64_t>(source.size()) + index0 + 1 + (peeked && after.given() ? 1 : 0);
  } else {
    total = static_cast<int64_t>(source.size());
  }
  return total;
}

Result<Value> Loop::attribute(std::string_view name) {
  if (name == "index") return Value(index0 + 1);
  if (name == "index0") return Value(index0);
  if (name == "first") return Value(index0 == 0);
  if (name == "depth") return Value(depth0 + 1);
  if (name == "depth0") return Value(depth0);
  if (name == "previtem") return index0 == 0 ? e.undefined("there is no previous item") : before;
  if (name == "last" || name == "nextitem") {
    INGOT_TRY(peek());
    if (name == "last") return Value(!after.given());
    return after.given() ? after : e.undefined("there is no next item");
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    INGOT_ASSIGN(const int64_t n, length());
    return Value(name == "length" ? n : name == "revindex" ? n - index0 : n - index0 - 1);
  }
  const Value self(Kind::kFunction, shared_from_this());
  if (name == "cycle")
    return e.function(
        "cycle",
        [loop = shared_from_this()](Call& call) -> Result<Value> {
          if (call.args.empty()) return bad_input("cycle() needs values");
          return call.args[static_cast<size_t>(loop->index0) % call.args.size()];
        },
        {self});
  if (name == "changed")
    return e.function(
        "changed",
        [loop = shared_from_this()](Call& call) -> Result<Value> {
          INGOT_ASSIGN(Value now, make_sequence(loop->e.budget_, Flavor::kTuple, call.args));
          const bool same = equal(loop->e.budget_, now, loop->last);
          // It may hold the loop itself: only while that is there.
          if (loop->alive) loop->last = std::move(now);
          return Value(!same);
        },
        {self});
  return Value();
}

Result<Value> Loop::call(Call& call) {
  if (!s.recursive) return bad_input("the loop is called, but it is not marked 'recursive'");
  if (!alive || call.args.size() != 1 || !call.kwargs.empty()) return bad_input("loop() takes one argument, within the loop");
  return e.captured([&]() -> Status {
    INGOT_TRY(e.loop(s, call.args[0], outer, static_cast<int>(depth0) + 1));
    return {};
  });
}

std::string Loop::repr() { return fmt::format("<LoopContext {}/{}>", index0 + 1, total >= 0 ? total : static_cast<int64_t>(source.size())); }

Result<Evaluator::Flow> Evaluator::loop(const Statement& s, Value over, Scope* outer, int depth) {
  if (++depth_ > kMaxDepth) return bad_input("loops are nested deeper than {} levels", kMaxDepth);
  auto loop = std::make_shared<Loop>(*this, s, outer, depth);
  INGOT_ASSIGN(loop->depth, depth_over({over}));
  INGOT_ASSIGN(loop->source, iterate(budget_, over));
  struct End {
    Loop& loop;
    ~End() { loop.alive = false, loop.last = Value(); }
  } end{*loop};
  loop->filtered = s.values.size() > 1;
  Scope* const before = scope_;
  bool completed = false;  // some round came to its end: else comes after a loop of which none did, as in Jinja
  for (;;) {
    INGOT_TRY(budget_.spend());
    INGOT_TRY(loop->peek());
    if (!loop->after.given()) break;
    loop->before = std::exchange(loop->current, std::exchange(loop->after, Value()));
    loop->peeked = false;
    ++loop->index0;
    scope_ = open(outer);
    assign("loop", Value(Kind::kFunction, loop));
    INGOT_TRY(assign(s.targets[0], loop->current));
    INGOT_ASSIGN(const Flow flow, execute(s.bodies[0]));
    close(scope_);
    scope_ = before;
    if (flow == Flow::kNext) completed = true;
    if (flow == Flow::kBreak) break;
  }
  --depth_;
  if (s.has_else && !completed) {
    scope_ = open(outer);
    auto flow = execute(s.bodies[1]);
    if (flow.ok()) close(scope_);
    scope_ = before;
    return flow;
  }
  return Flow::kNext;
}

}  // namespace ingot::jinja
