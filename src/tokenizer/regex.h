// Regular expressions of tokenizer files: written for Oniguruma (Ruby syntax), run by PCRE2. The translation
// keeps Oniguruma's meaning where the two differ; what it cannot keep is refused by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ingot {

// The PCRE2 pattern (UTF and UCP) that matches what `pattern` matches under Oniguruma. Characters of Unicode
// 15 and 16 are classified rightly only with `recent`, which makes slower patterns: for texts that hold one
// of them.
Result<std::string> translate_oniguruma(std::string_view pattern, bool recent);

// A compiled pattern. Immutable; any number of threads may match with it.
class Regex {
 public:
  // Patterns come from files and may be hostile: matching counts its steps and its time and fails beyond
  // a bound that grows with the text. `trusted` patterns (those of pretokenizers.def, known to run in linear
  // time) are compiled to machine code: PCRE2's JIT does not count the steps of simple repeats.
  static Result<Regex> compile(std::string_view pattern, bool trusted);

  // What matching needs beside the pattern: one serves all patterns, for one thread at a time.
  struct Workspace;
  static std::shared_ptr<Workspace> new_workspace();

  // Iterates over matches as the tokenizers library does: an empty match right after a match is skipped.
  class Iterator {
   public:
    Iterator(const Regex& regex, std::string_view text, Workspace& workspace);
    // Sets *begin, *end and returns true for the next match; false at the end or on failure (see status).
    bool next(size_t* begin, size_t* end);
    Status& status() { return status_; }

   private:
    bool over_budget();
    const Regex& regex_;
    Workspace& workspace_;
    std::string_view text_;
    bool recent_;
    size_t at_ = 0;
    size_t last_end_ = static_cast<size_t>(-1);
    uint32_t match_limit_ = 0;
    uint32_t calls_ = 0;
    double deadline_ = 0;  // in seconds of this thread's processor time
    Status status_;
  };

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace ingot
