// Decoders of tokenizer.json: from the texts of tokens back to text. Those not listed here are refused by
// name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/regex.h"

namespace ingot {

struct DecoderRule {
  enum class Kind { kByteLevel, kByteFallback, kFuse, kReplace, kReplaceRegex, kStrip, kWordPiece, kMetaspace, kBpe, kCtc };
  Kind kind = Kind::kByteLevel;
  // The replacements. kStrip: content is one character; kWordPiece: the prefix; kMetaspace: the mark; kBpe: the suffix; kCtc: the
  // token of padding and the one between words.
  std::string pattern, content;
  size_t start = 0, stop = 0;  // kStrip: how many of them to take from each end
  bool cleanup = false;        // kWordPiece, kCtc: no space before punctuation
  bool prepended = false;      // kMetaspace: the first token's marks were put there
};

class Decoder {
 public:
  // No rules: tokens are joined by spaces, as the library does without a decoder.
  static Result<Decoder> make(std::vector<DecoderRule> rules);
  // The text of a whole sequence; may hold ill-formed UTF-8 where tokens do (byte level), to be replaced by
  // the caller.
  std::string decode(std::vector<std::string> tokens) const;
  // What one token adds to a stream. `first` is whether none came before it.
  std::string piece(std::string_view token, bool first) const;
  bool byte_level() const { return byte_level_; }

 private:
  std::vector<DecoderRule> rules_;
  std::vector<Regex> regexes_;  // beside rules_
  bool byte_level_ = false;
};

}  // namespace ingot
