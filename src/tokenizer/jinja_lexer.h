// A template cut into tokens, with what trim_blocks, lstrip_blocks and the signs + and - take away.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ingot::jinja {

struct Token {
  enum Type : uint8_t { kData, kPrintBegin, kPrintEnd, kBlockBegin, kBlockEnd, kName, kText, kInteger, kFloat, kOperator, kEnd };
  Type type = kEnd;
  int line = 1;
  std::string text;  // of a text without quotes and escapes
  int64_t integer = 0;
  double real = 0;
};

// An error of a template, with its line.
Error template_error(int line, const std::string& what);

// The last token is kEnd.
Result<std::vector<Token>> cut_template(std::string_view source);

}  // namespace ingot::jinja
