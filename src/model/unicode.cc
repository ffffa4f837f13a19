// UTF-8 and Unicode facts for tokenizers, over simdjson's validation and utf8proc's tables.
#include "model/unicode.h"

#include <simdjson.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

namespace ingot::unicode {
namespace {

// Classifies the sequence at the start of s: its length when well-formed; 0 when s ends inside a sequence that
// may still become well-formed; else minus the length of the maximal ill-formed subpart.
int sequence_length(std::string_view s) {
  const auto b = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = b(0);
  if (lead < 0x80) return 1;
  int n;
  uint8_t lo = 0x80, hi = 0xBF;  // bounds of the second byte (Unicode table 3-7)
  if (lead >= 0xC2 && lead <= 0xDF) {
    n = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    n = 3;
    if (lead == 0xE0) lo = 0xA0;
    if (lead == 0xED) hi = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    n = 4;
    if (lead == 0xF0) lo = 0x90;
    if (lead == 0xF4) hi = 0x8F;
  } else {
    return -1;
  }
  for (int i = 1; i < n; ++i) {
    if (static_cast<size_t>(i) == s.size()) return 0;
    const uint8_t c = b(i);
    if (c < lo || c > hi) return -i;
    lo = 0x80, hi = 0xBF;
  }
  return n;
}

struct ByteAlphabet {
  std::array<char32_t, 256> chars{};
  std::array<int16_t, 512> bytes{};
  ByteAlphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      chars[b] = printable ? static_cast<char32_t>(b) : next++;
      bytes[chars[b]] = static_cast<int16_t>(b);
    }
  }
};
const ByteAlphabet& alphabet() {
  static const ByteAlphabet a;
  return a;
}

int category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

// Normalizes one segment. utf8proc's own reordering is quadratic in a run of marks, so decomposition is sorted here.
void normalize_segment(std::string_view text, Form form, std::vector<utf8proc_int32_t>& buffer, std::string& out) {
  const bool compat = form == Form::kNFKC || form == Form::kNFKD;
  const bool compose = form == Form::kNFC || form == Form::kNFKC;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0));
  buffer.clear();
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char32_t c = next_char(p);
    utf8proc_int32_t d[64];
    int last = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), d, 64, options, &last);
    if (n < 0 || n > 64) {
      buffer.push_back(static_cast<utf8proc_int32_t>(c));
    } else {
      buffer.insert(buffer.end(), d, d + n);
    }
  }
  const auto ccc = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (size_t i = 0; i < buffer.size();) {
    if (ccc(buffer[i]) == 0) {
      ++i;
      continue;
    }
    size_t j = i;
    while (j < buffer.size() && ccc(buffer[j]) != 0) ++j;
    std::stable_sort(buffer.begin() + i, buffer.begin() + j, [&](auto a, auto b) { return ccc(a) < ccc(b); });
    i = j;
  }
  auto length = static_cast<utf8proc_ssize_t>(buffer.size());
  if (compose) {
    const auto n = utf8proc_normalize_utf32(buffer.data(), length,
                                            static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n >= 0) length = n;
  }
  for (utf8proc_ssize_t i = 0; i < length; ++i) append_utf8(out, static_cast<char32_t>(buffer[i]));
}

}  // namespace

bool is_valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const int n = sequence_length(text);
    if (n > 0) {
      out.append(text.substr(0, n));
      text.remove_prefix(n);
    } else {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(n < 0 ? -n : text.size());
    }
  }
  return out;
}

size_t complete_prefix(std::string_view text) {
  const size_t n = text.size();
  // Only the last three bytes can open a character that is not finished.
  for (size_t back = 1; back <= std::min<size_t>(3, n); ++back) {
    const auto c = static_cast<uint8_t>(text[n - back]);
    if (c < 0x80) break;
    if (c >= 0xC0) return sequence_length(text.substr(n - back)) == 0 ? n - back : n;
  }
  return n;
}

char32_t next_char(const char*& p) {
  const auto* u = reinterpret_cast<const uint8_t*>(p);
  if (u[0] < 0x80) {
    p += 1;
    return u[0];
  }
  if (u[0] < 0xE0) {
    p += 2;
    return ((u[0] & 0x1Fu) << 6) | (u[1] & 0x3Fu);
  }
  if (u[0] < 0xF0) {
    p += 3;
    return ((u[0] & 0x0Fu) << 12) | ((u[1] & 0x3Fu) << 6) | (u[2] & 0x3Fu);
  }
  p += 4;
  return ((u[0] & 0x07u) << 18) | ((u[1] & 0x3Fu) << 12) | ((u[2] & 0x3Fu) << 6) | (u[3] & 0x3Fu);
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

char32_t byte_to_char(uint8_t byte) { return alphabet().chars[byte]; }

int char_to_byte(char32_t c) { return c < 512 ? alphabet().bytes[c] : -1; }

void append_byte_chars(std::string& out, std::string_view bytes) {
  for (const char b : bytes) append_utf8(out, byte_to_char(static_cast<uint8_t>(b)));
}

bool byte_chars_to_bytes(std::string_view text, std::string& out) {
  out.clear();
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const int b = char_to_byte(next_char(p));
    if (b < 0) return false;
    out += static_cast<char>(b);
  }
  return true;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const int g = category(c);
  return g == UTF8PROC_CATEGORY_ND || g == UTF8PROC_CATEGORY_NL || g == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) || (c >= 0x7B && c <= 0x7E);
  }
  const int g = category(c);
  return g >= UTF8PROC_CATEGORY_PC && g <= UTF8PROC_CATEGORY_PO;
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  const int g = category(c);
  if (g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_NL) return true;  // L*, M*, Nd, Nl
  if (g == UTF8PROC_CATEGORY_PC) return true;
  // Other_Alphabetic that is neither letter nor mark (circled and squared letters), and the joiners.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D;
}

std::string normalize(std::string_view text, Form form) {
  // Bytes below the bound are characters that the form leaves alone (up to U+02FF for NFC), and an ASCII
  // character never joins what stands before it: so only the stretches in between go through the tables.
  const uint8_t bound = form == Form::kNFC ? 0xCC : 0x80;
  std::string out;
  out.reserve(text.size() + 16);
  std::vector<utf8proc_int32_t> buffer;
  size_t i = 0;
  while (i < text.size()) {
    size_t j = i;
    while (j < text.size() && static_cast<uint8_t>(text[j]) < bound) ++j;
    if (j == text.size()) {
      out.append(text.substr(i));
      break;
    }
    // The segment starts at the last ASCII character before the stretch (a mark may join it).
    size_t start = j;
    while (start > i && static_cast<uint8_t>(text[start - 1]) >= 0x80) --start;
    if (start > i) --start;
    out.append(text.substr(i, start - i));
    size_t end = j;
    while (end < text.size() && static_cast<uint8_t>(text[end]) >= 0x80) ++end;
    normalize_segment(text.substr(start, end - start), form, buffer, out);
    i = end;
  }
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char32_t c = next_char(p);
    if (c == 0x130) {
      out += "i\xCC\x87";  // the one unconditional full mapping of SpecialCasing.txt
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

std::string strip_accents(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char* from = p;
    const char32_t c = next_char(p);
    const int g = c < 0x80 ? 0 : category(c);
    if (g < UTF8PROC_CATEGORY_MN || g > UTF8PROC_CATEGORY_ME) out.append(from, p);
  }
  return out;
}

}  // namespace ingot::unicode
