// Normalizers of tokenizer.json: what is done to text before it is cut. Those not listed here are refused by
// name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace ingot {

struct NormalizerRule {
  enum class Kind { kForm, kLowercase, kStripAccents, kPrepend, kReplaceString, kReplaceRegex, kStrip };
  Kind kind = Kind::kForm;
  unicode::Form form = unicode::Form::kNFC;
  std::string pattern;               // the replacements
  std::string content;               // what replaces, or is prepended
  bool left = false, right = false;  // kStrip

  std::string describe() const;
};

class Normalizer {
 public:
  static Result<Normalizer> compile(std::vector<NormalizerRule> rules);
  bool empty() const { return rules_.empty(); }
  // `text` is well-formed UTF-8, and so is the result.
  Result<std::string> apply(std::string_view text, Regex::Workspace& workspace) const;
  const std::vector<NormalizerRule>& rules() const { return rules_; }

 private:
  std::vector<NormalizerRule> rules_;
  std::vector<Regex> regexes_;  // beside rules_
};

}  // namespace ingot
