// Arguments of a builtin, bound to the names of its parameters as Python binds them.
#pragma once

#include <initializer_list>

#include "tokenizer/jinja_value.h"

namespace ingot::jinja {

class Args {
 public:
  // The first `required` must be given. A parameter without a name ("") takes positional arguments only.
  static Result<Args> bind(std::string_view function, Call& call, std::initializer_list<std::string_view> names, size_t required = 0) {
    Args a;
    a.function_ = function;
    a.names_.assign(names.begin(), names.end());
    a.values_.resize(names.size());
    if (call.args.size() > names.size()) return bad_input("{}() takes at most {} arguments, {} were given", function, names.size(), call.args.size());
    for (size_t i = 0; i < call.args.size(); ++i) a.values_[i] = call.args[i];
    for (const auto& [name, value] : call.kwargs) {
      size_t i = 0;
      while (i < a.names_.size() && a.names_[i] != name) ++i;
      if (i == a.names_.size()) return bad_input("{}() has no parameter '{}'", function, name);
      if (a.values_[i].given()) return bad_input("{}() was given '{}' twice", function, name);
      a.values_[i] = value;
    }
    for (size_t i = 0; i < required; ++i)
      if (!a.values_[i].given()) return bad_input("{}() needs at least {} arguments", function, required);
    return a;
  }
  bool given(size_t i) const { return values_[i].given(); }
  const Value& operator[](size_t i) const { return values_[i]; }
  Value& operator[](size_t i) { return values_[i]; }
  Value value(size_t i, Value otherwise) const { return given(i) ? values_[i] : otherwise; }
  bool boolean(size_t i, bool otherwise) const { return given(i) ? truth(values_[i]) : otherwise; }
  Result<int64_t> integer(size_t i, int64_t otherwise) const {
    if (!given(i)) return otherwise;
    if (!values_[i].is_integral()) return wrong(i, "an integer");
    return values_[i].integer();
  }
  Result<std::string> text(size_t i, std::string_view otherwise = {}) const {
    if (!given(i)) return std::string(otherwise);
    if (!values_[i].is(Kind::kText)) return wrong(i, "a text");
    return values_[i].text();
  }
  // The text of a value of any kind, as str() gives it.
  std::string as_text(Budget& b, size_t i, std::string_view otherwise = {}) const {
    return given(i) ? to_text(b, values_[i]) : std::string(otherwise);
  }

 private:
  Error wrong(size_t i, const char* expected) const {
    if (values_[i].is(Kind::kUndefined)) return undefined_error(values_[i]);
    return bad_input("{}(): argument {} must be {}, not '{}'", function_, i + 1, expected, type_name(values_[i]));
  }
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<Value> values_;
};

}  // namespace ingot::jinja
