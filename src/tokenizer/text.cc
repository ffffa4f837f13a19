// Showing pieces of hostile text in messages.
#include "tokenizer/text.h"

#include <cstdio>

#include "tokenizer/unicode.h"

namespace ingot {

std::string quoted(std::string_view text, size_t shown) {
  std::string_view head = text.substr(0, shown);
  if (head.size() < text.size()) head = head.substr(0, unicode::complete_prefix(head));
  const bool valid = unicode::is_valid_utf8(head);
  std::string out = "\"";
  for (const char c : head) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (u < 0x20 || u == 0x7F || (u >= 0x80 && !valid)) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02X", u);
      out += hex;
    } else {
      out += c;
    }
  }
  return out + (head.size() < text.size() ? "...\"" : "\"");
}

}  // namespace ingot
