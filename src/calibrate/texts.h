// Texts to calibrate with and to measure on, and the windows of tokens that they are cut into.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "tokenizer/tokenizer.h"

namespace ingot::calibrate {

struct Text {
  std::string name;      // where it came from, for messages and files: a path, "standard input", "builtin"
  std::string category;  // "" where none was given
  std::string text;      // UTF-8
};

// Of the mix that ships with ingot (data/texts): what is measured on must not be what was calibrated with.
enum class BuiltinHalf { kCalibrate, kEvaluate };

// FILE, or CATEGORY=FILE where no file of the whole name exists; "builtin" is a half of the mix that ships with ingot (a Text for each of its categories). A plain text is
// one Text; a newline at its end is left out, as llama.cpp's tools have it, and so is a byte order mark before it. A file whose name ends in .jsonl or .ndjson: json_lines.h.
// "-" is standard input, as plain text. kBadInput: what is no UTF-8 (with the byte's position), an empty file, one of another kind (a parquet file: says how to make jsonl of it).
Result<std::vector<Text>> read_texts(const std::vector<std::string>& arguments, BuiltinHalf half = BuiltinHalf::kCalibrate, const CancelToken* cancel = nullptr);

// The file that such an argument names, or "-", or "builtin".
std::string path_of_text(const std::string& argument);

// Windows of `length` tokens. The texts of a category are tokenized apart, their tokens follow one another and are cut; what is left over at the end is left out. Where the
// tokenizer begins a text with BOS, each window's first token is replaced by it, as llama-perplexity and llama-imatrix do.
struct TokenWindows {
  int64_t length = 0;
  std::vector<int32_t> ids;             // [count(), length]; the windows of a category stand together
  std::vector<int32_t> category;        // of each, a number into `categories`
  std::vector<std::string> categories;  // in the order of their coming; one "" where none was given
  std::vector<std::string> too_short;   // those that have not one whole window
  std::vector<std::string> names;       // of the texts, each once
  int64_t tokens = 0;                   // of the texts, with what was left out
  int64_t count() const { return length ? static_cast<int64_t>(ids.size()) / length : 0; }
};
struct WindowOptions {
  int64_t length = 512;
  // Windows that are left out (--chunk), and how many are taken after them (--chunks, 0: all). Of several categories one is taken of each in turn, so that few are a
  // sample of all.
  int64_t skip = 0, most = 0;
  bool parse_special = false;  // texts like "<|im_start|>" become the tokens that they name
};
// kBadInput where there is not one whole window, with how many tokens there are; kUsage where `skip` leaves none.
Result<TokenWindows> cut(const Tokenizer& tokenizer, const std::vector<Text>& texts, const WindowOptions& options);

}  // namespace ingot::calibrate
