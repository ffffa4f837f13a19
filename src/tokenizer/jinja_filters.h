// What the filters share.
#pragma once

#include <optional>

#include "tokenizer/jinja_builtins.h"

namespace ingot::jinja {

struct NamedBuiltin {
  std::string_view name;
  Builtin run;
};

Builtin find_sequence_filter(std::string_view name);
// float() of Python: of a number, or of a text that is one.
std::optional<double> number_in(const Value& v);

}  // namespace ingot::jinja
