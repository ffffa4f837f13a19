// The filters, tests and functions that templates have.
#pragma once

#include "tokenizer/jinja_value.h"

namespace ingot::jinja {

class Evaluator;

// The first argument is what stands before the '|' or the 'is'.
using Builtin = Result<Value> (*)(Evaluator&, Call&);

// nullptr: none of this name.
Builtin find_filter(std::string_view name);
Builtin find_test(std::string_view name);

}  // namespace ingot::jinja
