// The machine behind Pickle::run(): one pass over the opcodes with a stack, marks and a memo. Whatever an opcode claims (a length, a memo's number) is held
// against the stream before anything is allocated, so that memory grows with the stream alone; nothing here or in its values is recursive.
#pragma once

#include <deque>
#include <string>

#include "base/bytes.h"
#include "formats/pickle.h"

namespace ingot {

struct PickleValue::Box {
  PickleItems items;
  PickleObject object;
  const PickleValue* state = nullptr;  // of kPersistent: the id
};

struct PickleValue::Global {
  std::string_view module, name;
};

struct Pickle::Arena {
  std::string stream;
  std::deque<PickleValue> values;
  std::deque<PickleValue::Box> boxes;
  std::deque<PickleValue::Global> globals;
  std::deque<std::string> texts;  // that do not stand in the stream: escaped ones, long numbers
};

class PickleMachine {
 public:
  PickleMachine(Pickle::Arena* arena, size_t from) : arena_(*arena), at_(from) {}
  // The value, or null, and error() and cut() tell why.
  const PickleValue* run();
  const std::string& error() const { return error_; }
  bool cut() const { return cut_; }
  size_t position() const { return at_; }

 private:
  using Kind = PickleKind;
  bool fail(std::string what);
  bool refuse(std::string_view what);  // as an attack
  bool step(unsigned char op);
  bool read_text_op(unsigned char op);  // of protocol 0
  // Bytes of the stream. False (and cut) where it ends before.
  bool take(uint64_t n, std::string_view* out);
  bool line(std::string_view* out);
  template <class T>
  bool number(T* v);
  template <class T>
  bool sized(std::string_view* out);  // a length of type T and the bytes
  // Values.
  PickleValue* make(Kind kind);
  bool push(PickleValue* v);
  bool push_int(int64_t i);
  bool push_bool(bool b);
  bool push_text(Kind kind, std::string_view text);
  bool push_long(std::string_view little_endian);
  bool push_digits(std::string_view digits);
  bool push_global(std::string_view module, std::string_view name);
  bool push_sequence(Kind kind, size_t n);  // of the last n
  bool push_dict(size_t n);
  bool push_persistent();
  // The stack.
  bool need(size_t n);  // so many above the last mark
  PickleValue* pop();
  PickleValue* top() { return stack_.back(); }
  bool pop_mark(size_t* n);  // *n: the values above it
  bool memoize(uint64_t i);
  bool recall(uint64_t i);
  // What changes a value.
  bool append(size_t n);
  bool set_items(size_t n);
  bool add_items(size_t n);
  bool call(PickleValue* callable, PickleValue* args, PickleValue* kwargs);
  bool call_getattr(PickleValue* getattr, PickleValue* args);
  bool call_known(const PickleValue& callable, const PickleValue& args, bool* known);
  bool copy_into(PickleValue* to, const PickleValue& from, bool pairs);
  bool build();
  bool spend(uint64_t n);

  Pickle::Arena& arena_;
  size_t at_ = 0;
  std::string error_;
  bool cut_ = false;
  std::vector<PickleValue*> stack_;
  std::vector<uint32_t> marks_;
  std::vector<PickleValue*> memo_;
  uint64_t memoized_ = 0;  // what MEMOIZE counts by
  uint64_t spent_ = 0;     // items and characters looked at again for a call
};

}  // namespace ingot
