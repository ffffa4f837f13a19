// A template as a tree, by Jinja's grammar.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/jinja_builtins.h"
#include "tokenizer/jinja_value.h"

namespace ingot::jinja {

enum class Op : uint8_t {
  kConstant, kName, kList, kTuple, kDict, kAttribute, kItem, kSlice, kCall, kFilter, kTest,
  kNot, kAnd, kOr, kCondition, kCompare, kConcat, kNegative, kPositive, kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower
};
enum class Comparison : uint8_t { kEqual, kUnequal, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;  // null: an operand that is not there (the end of a slice, what a filter block filters)

struct Expression {
  Op op = Op::kConstant;
  int line = 1;
  int depth = 1;
  std::string name;                     // of a name, an attribute, a filter, a test
  Value constant;
  Builtin builtin = nullptr;            // the filter or test; nullptr: none has its name
  std::vector<ExpressionPtr> operands;  // keys and values of a dict in turn; what is called or filtered, then its arguments
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr more_args, more_keywords;  // *args, **kwargs
  std::vector<Comparison> comparisons;     // between the operands
};

// What is assigned to: a name, an attribute of a namespace, or several.
struct Target {
  int line = 1;
  std::string name, attribute;
  std::vector<Target> parts;
  bool tuple = false;
};

enum class Tag : uint8_t { kText, kPrint, kIf, kFor, kSet, kSetBlock, kMacro, kCallBlock, kFilterBlock, kWith, kGeneration, kBlock, kAutoescape, kBreak, kContinue };

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Statement {
  Tag tag = Tag::kText;
  int line = 1;
  std::string text;                     // or the name of a macro or block
  std::vector<ExpressionPtr> values;    // printed; the conditions of if and elif; what is looped over and the loop's condition; assigned
  std::vector<Target> targets;
  std::vector<Block> bodies;            // of if, each elif, and else; of a loop and its else
  bool has_else = false, recursive = false;
  bool scoped = false, required = false;  // of a block
  // Of a macro or the caller of a call block.
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

// The constants of the tree count in `budget`, which must outlive it.
Result<Block> parse_template(std::string_view source, Budget& budget);

}  // namespace ingot::jinja
