// Texts of a file with an object a line (jsonl, ndjson). An object has a string "text", or else "content"; its string "category", or else "domain", says where the
// text belongs, unless one category was given for all. The lines of a category are joined by a newline. Only texts are kept: not the lines that they stood in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "calibrate/texts.h"

namespace ingot::calibrate {

class JsonLines {
 public:
  static constexpr size_t kMaxLine = 64 << 20;  // bytes
  static constexpr size_t kMaxCategories = 64, kMaxCategory = 100;  // of a file; bytes of a name

  // `name` is the file's, for messages; `category` that of all texts, or empty; `bytes` the file's, or 0.
  JsonLines(std::string name, std::string category, uint64_t bytes = 0) : name_(std::move(name)), category_(std::move(category)), bytes_(bytes) {}
  // What follows in the file. kBadInput for a line that is no such object, with its number.
  Status add(std::string_view block);
  // kBadInput where there was no text.
  Result<std::vector<Text>> finish();

 private:
  Status line(std::string_view text);
  Status keep(const std::string& category, std::string_view text);
  std::string here() const;

  std::string name_, category_;
  uint64_t bytes_, begin_ = 0;  // begin_: of the line, in the file
  int64_t number_ = 0;          // of the line
  std::string rest_;            // of a line that goes on in the next block
  std::vector<Text> texts_;
  std::map<std::string, size_t, std::less<>> places_;  // in texts_, by category
};

// What is said of a byte (counted from 1) with which no character begins or goes on.
std::string no_utf8(uint64_t byte, char c);

}  // namespace ingot::calibrate
