// UTF-8 and Unicode facts that tokenizers need: validation with replacement, GPT-2's byte alphabet, character
// classes as the tokenizers library defines them, and the normalization forms. Nothing of tokens lives here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ingot::unicode {

// True when `text` is well-formed UTF-8.
bool is_valid_utf8(std::string_view text);
// Length of the longest prefix that is: where ill-formed text begins to be so.
size_t well_formed_prefix(std::string_view text);
// Copies `text`, replacing each maximal ill-formed subsequence by U+FFFD (the practice of the Unicode
// standard, Rust's from_utf8_lossy and Python's errors="replace").
std::string replace_invalid_utf8(std::string_view text);
// Length of the longest prefix that does not end inside a character: what a stream may print now. Bytes that
// can never become a character count as complete.
size_t complete_prefix(std::string_view text);

// Decodes the character at `p` of well-formed UTF-8 and moves `p` past it.
char32_t next_char(const char*& p);
void append_utf8(std::string& out, char32_t c);

// GPT-2's alphabet: every byte has a printable character that stands for it in vocabularies.
char32_t byte_to_char(uint8_t byte);
void append_byte_chars(std::string& out, std::string_view bytes);
// Undoes append_byte_chars; false when a character stands for no byte (`out` is then unspecified).
bool byte_chars_to_bytes(std::string_view text, std::string& out);

bool is_numeric(char32_t c);      // general category N*, as Rust's char::is_numeric
bool is_punctuation(char32_t c);  // ASCII punctuation or category P* (of Unicode 8)
bool is_whitespace(char32_t c);   // property White_Space
bool is_other(char32_t c);            // categories Cc, Cf, Co (of Unicode 8)
bool is_nonspacing_mark(char32_t c);  // category Mn (of Unicode 8)
bool is_word(char32_t c);         // \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control

enum class Form { kNFC, kNFD, kNFKC, kNFKD };
std::string normalize(std::string_view text, Form form);
std::string lowercase(std::string_view text);
// Removes the combining marks (M*, of Unicode 9), as the library's StripAccents does.
std::string strip_accents(std::string_view text);

}  // namespace ingot::unicode
