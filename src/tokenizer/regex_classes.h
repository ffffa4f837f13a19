// What one character of an Oniguruma pattern may be: escapes, properties, POSIX brackets, classes. Written as PCRE2 classes
// that hold the same characters; regex_translate.cc has the syntax around them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ingot {

// A set of characters as one PCRE2 expression that matches one character. `members` is what may stand in a
// [...]; `others` are whole expressions beside it.
struct CharacterSet {
  std::string members;
  std::vector<std::string> others;

  void add(const std::string& some, bool negative);
  std::string expression() const;
  std::string complement() const;
};

// The members of \w outside a class (`recent`: see translate_oniguruma).
std::string bare_word_members(bool recent);

// A place in a pattern, and what is read from there.
class PatternReader {
 public:
  PatternReader(std::string_view pattern, bool recent) : p_(pattern), recent_(recent) {}

 protected:
  static constexpr int kMaxDepth = 64;

  Error unsupported(const std::string& what) const;
  Error malformed(const std::string& what) const;
  bool more() const { return i_ < p_.size(); }
  bool looking_at(std::string_view s) const { return p_.substr(i_, s.size()) == s; }
  char32_t take();
  // After a backslash: a single character (returned), or a set of them (added; returns none).
  Result<std::optional<char32_t>> escaped(CharacterSet& set, bool in_class);
  // After '[': reads to the matching ']'.
  Result<std::string> char_class();

  std::string_view p_;
  bool recent_;
  size_t i_ = 0;
  int depth_ = 0;

 private:
  Result<char32_t> hex(size_t min, size_t max);
  Status property(CharacterSet& set, bool negative);
  Result<bool> posix(CharacterSet& set);
  Result<char32_t> escaped_character(char32_t c);
};

}  // namespace ingot
