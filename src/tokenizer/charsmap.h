// SentencePiece's precompiled character maps: texts and what replaces them, in a double array over their bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ingot {

class Charsmap {
 public:
  static Result<Charsmap> parse(std::string_view bytes);
  const std::string& bytes() const { return bytes_; }

  // As the tokenizers library applies it: to grapheme clusters of at most five bytes, else to their characters; and what replaces a
  // text is what the map has for the shortest beginning of it. Stops when `out` has grown past `limit`.
  void apply(std::string_view text, size_t limit, std::string& out) const;

  // As llama.cpp applies it: wherever the map has what a text begins with, the longest of that.
  void apply_longest(std::string_view text, size_t limit, std::string& out) const;

 private:
  // Calls f(length, replacement) for each beginning of `text` in the map, shortest first, until f gives false.
  template <class F>
  void prefixes(std::string_view text, F&& f) const;
  std::optional<std::string_view> shortest(std::string_view text) const;
  std::string_view replacement(uint32_t at) const;

  std::string bytes_;
  std::vector<uint32_t> units_;
  std::string texts_;  // each ends with a zero
};

}  // namespace ingot
