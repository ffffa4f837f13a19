// Texts to calibrate with and to measure on, and the windows of tokens that they are cut into.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "tokenizer/tokenizer.h"

namespace ingot::calibrate {

struct Text {
  std::string name;      // where it came from, for messages and files: a path, "builtin"
  std::string category;  // "" where none was given
  std::string text;      // UTF-8
};

// FILE, or CATEGORY=FILE where no file of the whole name exists; "builtin" is the mix that ships with ingot (a Text for each of its categories). A plain text is one
// Text. A file whose name ends in .jsonl or .ndjson has an object a line with a string "text" (or "content"; its "category" or "domain" where it has one): the lines of one category are joined by
// a newline. "-" is standard input, as plain text. kBadInput: what is no UTF-8 (with the byte's position), an empty file, a line that is no such object (with its number), a parquet file (says how to make jsonl of it).
Result<std::vector<Text>> read_texts(const std::vector<std::string>& arguments);

// Windows of `length` tokens: a text's tokens in their order, cut; what is left over at its end is left out. Where the model begins a text with BOS, each window's first
// token is replaced by it, as llama-perplexity and llama-imatrix do.
struct TokenWindows {
  int64_t length = 0;
  std::vector<int32_t> ids;        // [count(), length]
  std::vector<int32_t> category;   // of each, a number into `categories`
  std::vector<std::string> categories;  // in the order of their coming; one "" where none was given
  int64_t tokens = 0;              // of the texts, with what was left out
  int64_t count() const { return length ? static_cast<int64_t>(ids.size()) / length : 0; }
  std::vector<std::string> names;  // of the texts
};
struct WindowOptions {
  int64_t length = 512;
  int64_t skip = 0, most = 0;  // windows at the beginning that are left out (--chunk), and how many are taken after them (--chunks, 0: all)
  bool parse_special = false;  // texts like "<|im_start|>" become the tokens that they name
};
// Texts of one category are tokenized apart and their windows follow each other. kBadInput where there is not one whole window, with how many tokens there are.
Result<TokenWindows> cut(const Tokenizer& tokenizer, const std::vector<Text>& texts, const WindowOptions& options);

}  // namespace ingot::calibrate
