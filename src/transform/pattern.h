// Regular expressions that come from files and flags (PEFT's target_modules, --tensor-type): PCRE2 with limits on the
// work that a match may take.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ingot::transform {

class Pattern {
 public:
  // `what` says in messages where the expression comes from.
  static Result<Pattern> compile(const std::string& expression, const std::string& what);
  // Whole subject; from its start; anywhere: re.fullmatch, re.match, re.search. An error when the limits are hit.
  Result<bool> full_match(std::string_view subject) const;
  Result<bool> match(std::string_view subject) const;
  Result<bool> search(std::string_view subject) const;

 private:
  Result<bool> run(std::string_view subject, uint32_t options) const;
  std::shared_ptr<void> code_;
  std::string expression_, what_;
};

}  // namespace ingot::transform
