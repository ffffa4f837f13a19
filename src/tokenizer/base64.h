// Bytes as base64, which is how JSON files of tokenizers hold them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ingot {

// Nothing where `text` is no base64. Padding may be missing.
inline std::optional<std::string> from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int n = 0;
  for (const char c : text.substr(0, text.find('='))) {
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    n += 6;
    if (n >= 8) out += static_cast<char>(bits >> (n -= 8) & 0xFF);
  }
  return out;
}

}  // namespace ingot
