// Writes a pickle of protocol 2, the one that torch.save writes: plain values, and calls of globals by name. Values follow each other as on the machine's stack:
//   PickleWriter w;
//   w.open_dict();
//   w.text("step"), w.integer(3);
//   w.close_dict();
//   const std::string bytes = w.finish();
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "formats/json.h"

namespace ingot {

class PickleWriter {
 public:
  PickleWriter() { bytes("\x80\x02"); }  // PROTO 2

  void none() { bytes("N"); }
  void boolean(bool v) { bytes(v ? "\x88" : "\x89"); }
  void integer(int64_t v);
  void number(double v);
  void text(std::string_view v);
  void binary(std::string_view v);  // bytes, as protocol 2 has them
  // A class or function. It and texts stand once; where they come again they are taken from the memo.
  void global(std::string_view module, std::string_view name);
  // Between open and close come the items, of a dict keys and values in turn.
  void open_dict() { bytes("}("); }
  void close_dict() { bytes("u"); }
  void open_list() { bytes("]("); }
  void close_list() { bytes("e"); }
  void open_tuple() { bytes("("); }
  void close_tuple() { bytes("t"); }
  void empty_tuple() { bytes(")"); }
  // Calls the global before the tuple that was closed last with it.
  void call() { bytes("R"); }
  // Makes an object of the class before the tuple that was closed last (its __new__ is called with it).
  void make() { bytes("\x81"); }
  // Sets on the object of a call the state that came last.
  void build() { bytes("b"); }
  // Makes the tuple that was closed last a persistent id.
  void persistent() { bytes("Q"); }
  // Of any size, from its decimal digits (at most some thousands, it takes their square).
  void long_integer(std::string_view decimal);
  // Null, bools, numbers, texts, lists and dicts of them.
  void json(const OrderedJson& v);

  // The pickle, of the one value that was written.
  std::string finish();

 private:
  void bytes(std::string_view s) { out_.append(s); }
  bool known(const std::string& what);
  void memo_op(const char* one_byte, const char* four_bytes, uint32_t n);
  ByteWriter out_;
  std::map<std::string, uint32_t> memo_;
};

}  // namespace ingot
