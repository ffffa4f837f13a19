// The values of a chat template, which are Python's, and what one rendering may use of the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ingot::jinja {

// What one rendering takes. Bytes are counted for as long as an object lives, steps for ever: an expression is one, and so are 16 bytes
// that are copied. What cannot fail where it stands only counts; the next spend() fails.
struct Budget {
  int64_t max_bytes = int64_t{256} << 20, max_steps = 100'000'000;
  int64_t bytes = 0, steps = 0;

  bool exhausted() const { return steps > max_steps || bytes > max_bytes; }
  void count(size_t copied) { steps += 1 + static_cast<int64_t>(copied / 16); }
  Status spend(int64_t n = 1);
  // Whether `more` bytes, which are about to be made, are within bounds.
  Status room(uint64_t more) const;
};

// What holds others is nested no deeper, so that no walk over it needs much of the stack.
inline constexpr int kMaxNesting = 200;

// Memory that is counted.
class Object {
 public:
  Object(Budget& budget, size_t bytes) : budget_(budget), bytes_(static_cast<int64_t>(bytes)) { budget_.bytes += bytes_; }
  Object(const Object&) = delete;
  virtual ~Object() { budget_.bytes -= bytes_; }
  void grow(size_t bytes) {
    bytes_ += static_cast<int64_t>(bytes);
    budget_.bytes += static_cast<int64_t>(bytes);
  }

 private:
  Budget& budget_;
  int64_t bytes_;
};

enum class Kind : uint8_t { kMissing, kUndefined, kNone, kBool, kInt, kFloat, kText, kSequence, kDict, kNamespace, kFunction };

struct Text;
struct Sequence;
struct Dict;
struct Namespace;
struct Function;

// kMissing is no value: an argument that was not given.
class Value {
 public:
  Value() = default;
  Value(bool b) : kind_(Kind::kBool) { n_.i = b; }          // NOLINT: values of C++ are values of a template
  Value(int64_t i) : kind_(Kind::kInt) { n_.i = i; }        // NOLINT
  Value(double f) : kind_(Kind::kFloat) { n_.f = f; }       // NOLINT
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}
  static Value none() { return Value(Kind::kNone, nullptr); }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool given() const { return kind_ != Kind::kMissing; }
  bool is_number() const { return kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat; }
  bool is_integral() const { return kind_ == Kind::kBool || kind_ == Kind::kInt; }
  // Only of the kind that they name.
  bool boolean() const { return n_.i != 0; }
  int64_t integer() const { return n_.i; }  // of a bool, too
  double real() const { return kind_ == Kind::kFloat ? n_.f : static_cast<double>(n_.i); }
  const std::string& text() const;
  bool is_safe() const;  // a text that |safe or |escape made
  const Sequence& sequence() const;
  Sequence& sequence();
  const Dict& dict() const;
  Namespace& name_space() const;
  Function& function() const;
  const Object* object() const { return object_.get(); }
  const std::shared_ptr<Object>& shared() const { return object_; }

 private:
  Kind kind_ = Kind::kMissing;
  union {
    int64_t i;
    double f;
  } n_{0};
  std::shared_ptr<Object> object_;
};

struct Text : Object {
  Text(Budget& b, std::string t, bool is_safe) : Object(b, sizeof(Text) + t.size()), text(std::move(t)), safe(is_safe) { b.count(text.size()); }
  std::string text;
  bool safe;
};

// A view is what keys(), values() and items() of a dict give; an iterator can be walked through once.
enum class Flavor : uint8_t { kList, kTuple, kRange, kView, kIterator };

struct Sequence : Object {
  Sequence(Budget& b, Flavor f, std::vector<Value> v)
      : Object(b, sizeof(Sequence) + v.size() * sizeof(Value)), flavor(f), items(std::move(v)) { b.count(items.size() * sizeof(Value)); }
  bool sized() const { return flavor != Flavor::kIterator; }
  bool indexed() const { return flavor == Flavor::kList || flavor == Flavor::kTuple || flavor == Flavor::kRange; }
  Flavor flavor;
  std::vector<Value> items;
  std::string name;                 // "dict_keys" of a view, "range(0, 3)" of a range
  int64_t start = 0, step = 1;      // of a range
  bool group = false;               // a tuple whose items are .grouper and .list, too
  int depth = 1;
};

// In the order of insertion.
struct Dict : Object {
  explicit Dict(Budget& b) : Object(b, sizeof(Dict)), budget(b) {}
  // nullptr: not there. The key must be hashable.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  Status set(const Value& key, Value value);  // fails for a key that cannot be hashed, and where it is nested too deep
  Budget& budget;
  std::vector<std::pair<Value, Value>> items;
  std::unordered_multimap<uint64_t, size_t> index;  // by hash, once there are many
  int depth = 1;
};

struct Namespace : Object {
  explicit Namespace(Budget& b) : Object(b, sizeof(Namespace)), values(std::make_shared<Dict>(b)) {}
  std::shared_ptr<Dict> values;
};

struct Call {
  std::vector<Value> args;
  std::vector<std::pair<std::string, Value>> kwargs;
};

struct Function : Object {
  using Run = std::function<Result<Value>(Call&)>;
  Function(Budget& b, std::string n, Run r = {}) : Object(b, sizeof(Function) + 64), name(std::move(n)), run(std::move(r)) {}
  virtual Result<Value> call(Call& call) { return run(call); }
  virtual Result<Value> attribute(std::string_view) { return Value(); }  // kMissing: none of this name
  virtual std::string repr() { return "<function " + name + ">"; }
  std::string name;
  Run run;
  int depth = 0;  // of what it holds
};

struct Undefined : Object {
  Undefined(Budget& b, std::string m) : Object(b, sizeof(Undefined) + m.size()), message(std::move(m)) {}
  std::string message;  // "'x' is undefined"
};

inline Value make_text(Budget& b, std::string text, bool safe = false) {
  return Value(Kind::kText, std::make_shared<Text>(b, std::move(text), safe));
}
inline Value make_undefined(Budget& b, std::string message) { return Value(Kind::kUndefined, std::make_shared<Undefined>(b, std::move(message))); }
// How deep something that holds these is nested; fails beyond kMaxNesting.
Result<int> depth_over(const std::vector<Value>& held);
Result<Value> make_sequence(Budget& b, Flavor flavor, std::vector<Value> items);
Error undefined_error(const Value& undefined);  // of a use that an undefined value does not bear

// As Python has them. What only counts against the budget gives anything once it is exhausted.
const char* type_name(const Value& v);
bool truth(const Value& v);
bool equal(Budget& b, const Value& x, const Value& y);
Result<int> compare(Budget& b, const Value& x, const Value& y);  // less than, equal to, more than 0
Result<uint64_t> hash(const Value& v);
Result<bool> contains(Budget& b, Value& in, const Value& what);
Result<int64_t> length(const Value& v);
// The items that a loop would see; an iterator has none left then.
Result<std::vector<Value>> iterate(Budget& b, Value& v);
void append_repr(Budget& b, const Value& v, std::string* out, int depth = 0);
void append_text(Budget& b, const Value& v, std::string* out);  // str(v)
std::string to_text(Budget& b, const Value& v);
std::string float_text(double f);
std::string repr_text(std::string_view text);

}  // namespace ingot::jinja
