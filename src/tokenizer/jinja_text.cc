#include "tokenizer/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

#include "tokenizer/unicode.h"

namespace ingot::jinja {
char32_t char_at(std::string_view text, size_t at) {
  const char* p = text.data() + at;
  return unicode::next_char(p);
}

size_t count_chars(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

size_t offset_of(std::string_view text, size_t chars) {
  size_t i = 0;
  for (; i < text.size() && chars > 0; --chars) i = next_char_at(text, i);
  return i;
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string::npos;
  if (part.empty()) return from;
  const void* p = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return p ? static_cast<size_t>(static_cast<const char*>(p) - text.data()) : std::string::npos;
}

bool is_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || unicode::is_whitespace(c); }

bool is_printable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

namespace {

template <class Take>
std::string_view strip_where(std::string_view text, Side side, const Take& take) {
  size_t begin = 0, end = text.size();
  if (side != Side::kRight)
    while (begin < end && take(char_at(text, begin))) begin = next_char_at(text, begin);
  if (side != Side::kLeft)
    while (end > begin && take(char_at(text, previous_char_at(text, end)))) end = previous_char_at(text, end);
  return text.substr(begin, end - begin);
}

bool ends_line(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

std::string_view strip(std::string_view text, Side side) { return strip_where(text, side, is_space); }

std::string_view strip(std::string_view text, Side side, std::string_view chars) {
  std::u32string set;
  for (size_t i = 0; i < chars.size(); i = next_char_at(chars, i)) set += char_at(chars, i);
  std::sort(set.begin(), set.end());
  return strip_where(text, side, [&](char32_t c) { return std::binary_search(set.begin(), set.end(), c); });
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> out;
  for (size_t begin = 0, i = 0; begin < text.size();) {
    while (i < text.size() && !ends_line(char_at(text, i))) i = next_char_at(text, i);
    const size_t end = i;
    if (i < text.size()) i = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n' ? i + 2 : next_char_at(text, i);
    out.push_back(text.substr(begin, (keep_ends ? i : end) - begin));
    begin = i;
  }
  return out;
}

std::vector<std::string_view> split_text(std::string_view text, std::string_view cut_at, int64_t most) {
  std::vector<std::string_view> out;
  size_t begin = 0;
  for (size_t at; most != 0 && (at = find_text(text, cut_at, begin)) != std::string::npos; begin = at + cut_at.size(), --most)
    out.push_back(text.substr(begin, at - begin));
  out.push_back(text.substr(begin));
  return out;
}

Result<std::string> replaced(Budget& b, std::string_view text, std::string_view old, std::string_view with, int64_t count) {
  std::string out;
  size_t begin = 0;
  for (size_t at = 0; count != 0 && (at = find_text(text, old, at)) != std::string::npos; --count) {
    out += text.substr(begin, at - begin);
    out += with;
    INGOT_TRY(b.room(out.size()));
    begin = at + old.size();
    if (!old.empty()) at = begin;
    else if (at < text.size()) at = next_char_at(text, at);
    else break;
  }
  return out += text.substr(begin);
}

Result<std::string> repeated(Budget& b, std::string_view text, int64_t times) {
  std::string out;
  if (times <= 0 || text.empty()) return out;
  uint64_t size = 0;
  if (__builtin_mul_overflow(text.size(), static_cast<uint64_t>(times), &size)) size = UINT64_MAX / 2;
  INGOT_TRY(b.room(size));
  out.reserve(size);
  while (times-- > 0) out += text;
  return out;
}

size_t count_words(std::string_view text) {
  size_t n = 0;
  bool in = false;
  for (size_t i = 0; i < text.size(); i = next_char_at(text, i)) {
    const bool word = unicode::is_word(char_at(text, i));
    n += word && !in ? 1 : 0;
    in = word;
  }
  return n;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '\'') out += "&#39;";
    else if (c == '"') out += "&#34;";
    else out += c;
  }
  return out;
}

}  // namespace ingot::jinja
