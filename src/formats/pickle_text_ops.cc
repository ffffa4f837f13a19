// The opcodes of pickle protocol 0, which are lines of text.
#include <fmt/format.h>

#include <charconv>

#include "formats/pickle_machine.h"

namespace ingot {
namespace {

using enum PickleKind;

void append_utf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xc0 | c >> 6);
    *out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xe0 | c >> 12);
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    *out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    *out += static_cast<char>(0xf0 | c >> 18);
    *out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    *out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

bool hex(std::string_view s, size_t at, size_t digits, uint32_t* out) {
  if (at + digits > s.size()) return false;
  const auto r = std::from_chars(s.data() + at, s.data() + at + digits, *out, 16);
  return r.ec == std::errc() && r.ptr == s.data() + at + digits;
}

// As repr() of Python 2 writes a text: in quotes, escaped.
bool unquote(std::string_view s, std::string* out) {
  if (s.size() < 2 || s[0] != s.back() || (s[0] != '\'' && s[0] != '"')) return false;
  s = s.substr(1, s.size() - 2);
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '\\') {
      *out += s[i];
      continue;
    }
    if (++i == s.size()) return false;
    uint32_t c = 0;
    switch (s[i]) {
      case 'n': *out += '\n'; break;
      case 'r': *out += '\r'; break;
      case 't': *out += '\t'; break;
      case 'x':
        if (!hex(s, i + 1, 2, &c)) return false;
        *out += static_cast<char>(c);
        i += 2;
        break;
      default: *out += s[i];
    }
  }
  return true;
}

// raw-unicode-escape: characters below 256 as bytes, others as \uXXXX or \UXXXXXXXX.
bool unescape(std::string_view s, std::string* out) {
  for (size_t i = 0; i < s.size(); ++i) {
    const size_t digits = s[i] != '\\' || i + 1 == s.size() ? 0 : s[i + 1] == 'u' ? 4 : s[i + 1] == 'U' ? 8 : 0;
    uint32_t c = static_cast<unsigned char>(s[i]);
    if (digits) {
      if (!hex(s, i + 2, digits, &c) || c > 0x10ffff) return false;
      i += 1 + digits;
    }
    append_utf8(c, out);
  }
  return true;
}

}  // namespace

bool PickleMachine::read_text_op(unsigned char op) {
  std::string_view s, t;
  size_t n = 0;
  const auto index = [&](uint64_t* i) {
    if (!line(&s)) return false;
    const auto r = std::from_chars(s.data(), s.data() + s.size(), *i);
    return (r.ec == std::errc() && r.ptr == s.data() + s.size()) || fail(fmt::format("has '{}' for a number of its memo", s.substr(0, 40)));
  };
  uint64_t i = 0;
  switch (op) {
    case 'I':
      if (!line(&s)) return false;
      return s == "00" || s == "01" ? push_bool(s == "01") : push_digits(s);
    case 'L': return line(&s) && push_digits(s.ends_with('L') ? s.substr(0, s.size() - 1) : s);
    case 'F': {
      if (!line(&s)) return false;
      double d = 0;
      const auto r = std::from_chars(s.data(), s.data() + s.size(), d);
      if (r.ec == std::errc::invalid_argument || r.ptr != s.data() + s.size()) return fail(fmt::format("has '{}' for a float", s.substr(0, 40)));
      PickleValue* v = make(kFloat);
      if (v) v->number_ = d;
      return push(v);
    }
    case 'S':
    case 'V': {
      if (!line(&s)) return false;
      std::string& text = arena_.texts.emplace_back();
      if (!(op == 'S' ? unquote(s, &text) : unescape(s, &text))) return fail("has a text whose escapes are broken");
      return push_text(kText, text);
    }
    case 'p': return index(&i) && memoize(i);
    case 'g': return index(&i) && recall(i);
    case 'P': return line(&s) && push_text(kText, s) && push_persistent();
    case 'i': {  // INST
      PickleValue* args = nullptr;
      if (!line(&s) || !line(&t) || !pop_mark(&n) || !push_sequence(kTuple, n)) return false;
      args = pop();
      return push_global(s, t) && call(pop(), args, nullptr);
    }
    case 'o': {  // OBJ
      PickleValue* args = nullptr;
      if (!pop_mark(&n) || (n == 0 && fail("makes an object of no class")) || n == 0 || !push_sequence(kTuple, n - 1)) return false;
      args = pop();
      return call(pop(), args, nullptr);
    }
    case 0x82: case 0x83: case 0x84: return fail("names a class by a number of an extension registry, which lies in no file");
    case 0x97: case 0x98: return fail("keeps values outside itself (protocol 5 buffers), which are not there");
    default: return fail(fmt::format("has the opcode 0x{:02x}, which is none", op));
  }
}

}  // namespace ingot
