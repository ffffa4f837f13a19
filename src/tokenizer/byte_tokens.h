// Tokens that stand for one byte of a character that has no token: <0x00> to <0xFF>.
#pragma once

#include <cctype>
#include <cstdint>
#include <string>
#include <string_view>

namespace ingot {

inline std::string byte_token(uint8_t byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
}

// The byte of such a token, or -1.
inline int token_byte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  int v = 0;
  for (const char c : token.substr(3, 2)) {
    if (!std::isxdigit(static_cast<uint8_t>(c))) return -1;
    v = v * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return v;
}

}  // namespace ingot
