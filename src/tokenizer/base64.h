// Bytes as base64, which is how JSON files of tokenizers hold them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ingot {

inline constexpr std::string_view kBase64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Nothing where `text` is no base64. Padding may be missing.
inline std::optional<std::string> from_base64(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int n = 0;
  for (const char c : text.substr(0, text.find('='))) {
    const size_t digit = kBase64Digits.find(c);
    if (digit == kBase64Digits.npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    n += 6;
    if (n >= 8) out += static_cast<char>(bits >> (n -= 8) & 0xFF);
  }
  return out;
}

inline std::string to_base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kBase64Digits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

}  // namespace ingot
