// Normalizers of tokenizer.json: what is done to text before it is cut. Those not listed here are refused by
// name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace ingot {

struct NormalizerRule {
  enum class Kind {
    kForm, kLowercase, kStripAccents, kPrepend, kReplaceString, kReplaceRegex, kStrip, kBert, kNmt, kByteLevel, kPrecompiled
  };
  Kind kind = Kind::kForm;
  unicode::Form form = unicode::Form::kNFC;
  std::string pattern;               // the replacements
  std::string content;               // what replaces, or is prepended
  bool left = false, right = false;  // kStrip
  bool unless_blank = false;         // kPrepend: not before spaces alone
  bool clean = false, chinese = false, strip_accents = false, lowercase = false;  // kBert
  std::shared_ptr<const Charsmap> charsmap;                                       // kPrecompiled
  bool longest = false;  // kPrecompiled: wherever something is found, the longest; else as the library does

  std::string describe() const;
};

class Normalizer {
 public:
  static Result<Normalizer> compile(std::vector<NormalizerRule> rules);
  bool empty() const { return rules_.empty(); }
  // `text` is well-formed UTF-8, and so is the result. `starts` becomes false where the text's first character is dropped.
  Result<std::string> apply(std::string_view text, Regex::Workspace& workspace, bool* starts = nullptr) const;
  const std::vector<NormalizerRule>& rules() const { return rules_; }

 private:
  std::vector<NormalizerRule> rules_;
  std::vector<Regex> regexes_;  // beside rules_
};

}  // namespace ingot
