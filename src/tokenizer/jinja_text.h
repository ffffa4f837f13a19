// Texts of a chat template: characters as Python counts them, and the methods of str.
#pragma once

#include "tokenizer/jinja_value.h"

namespace ingot::jinja {

// Of well-formed UTF-8.
inline size_t next_char_at(std::string_view text, size_t at) {
  const auto c = static_cast<unsigned char>(text[at]);
  return at + (c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4);
}
inline size_t previous_char_at(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}
char32_t char_at(std::string_view text, size_t at);
size_t count_chars(std::string_view text);
size_t offset_of(std::string_view text, size_t chars);  // of the character with this number; the end, if there is none
size_t find_text(std::string_view text, std::string_view part, size_t from);  // linear, whatever they are

bool is_space(char32_t c);      // str.isspace
bool is_printable(char32_t c);  // str.isprintable
// jinja_case.cc
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalized(std::string_view text);
std::string titled(std::string_view text);
std::string case_swapped(std::string_view text);
std::string case_folded(std::string_view text);
enum class Side { kLeft, kRight, kBoth };
std::string_view strip(std::string_view text, Side side);
std::string_view strip(std::string_view text, Side side, std::string_view chars);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);
// At most `most` cuts (negative: all); `cut_at` is not empty.
std::vector<std::string_view> split_text(std::string_view text, std::string_view cut_at, int64_t most = -1);
Result<std::string> replaced(Budget& b, std::string_view text, std::string_view old, std::string_view with, int64_t count);
Result<std::string> repeated(Budget& b, std::string_view text, int64_t times);
std::string escaped(std::string_view text);  // for HTML
size_t count_words(std::string_view text);   // runs of letters, digits and underscores

bool is_text_method(std::string_view name);
Result<Value> call_text_method(Budget& b, const Value& self, std::string_view name, Call& call);

// str.format, and the operator %.
Result<std::string> format_text(Budget& b, std::string_view format, const Call& call,
                                const std::function<Result<Value>(Value&, const Value& key, bool attribute)>& member);
Result<std::string> format_percent(Budget& b, std::string_view format, const Value& values);

}  // namespace ingot::jinja
