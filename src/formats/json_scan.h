// One pass over the text of a JSON file, read as Python's json.loads reads it: NaN, Infinity and numbers of any size pass,
// a repeated key passes, and so does a byte order mark. What a file's reader makes of them is its own matter (json.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ingot {

// A number as it stands in the file, and as the smallest type that holds it.
struct JsonNumber {
  enum class Kind { kInteger, kUnsigned, kReal, kOdd };  // kOdd: beyond 64 bits, beyond a double, NaN, Infinity
  Kind kind = Kind::kOdd;
  std::string_view text;
  int64_t integer = 0;
  uint64_t natural = 0;  // above INT64_MAX
  double real = 0;
};

// A text as it stands in the file, quotes and escapes included, and what it means. An odd one holds half of a surrogate
// pair, which no UTF-8 can; `value` then has the three bytes that UTF-8 would give that half.
struct JsonString {
  std::string_view text;
  std::string value;
  bool odd = false;
};

class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void null() = 0;
  virtual void boolean(bool v) = 0;
  virtual void number(const JsonNumber& v) = 0;
  virtual void string(JsonString v) = 0;
  virtual void key(JsonString v) = 0;
  virtual void begin(bool object) = 0;
  virtual void end(bool object) = 0;
};

// Empty, or why the text cannot be read, with the place. Nesting is bounded; the stack does not grow with it.
std::string scan_json(std::string_view text, JsonEvents& events);

}  // namespace ingot
