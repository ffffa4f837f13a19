#define PCRE2_CODE_UNIT_WIDTH 8
#include "transform/pattern.h"

#include <pcre2.h>

namespace ingot::transform {

Result<Pattern> Pattern::compile(const std::string& expression, const std::string& what) {
  if (expression.size() > 65536) return bad_input("{}: the expression is longer than 64 KiB", what);
  int code = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* c = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                PCRE2_NEVER_BACKSLASH_C, &code, &at, nullptr);
  if (!c) {
    PCRE2_UCHAR text[128] = {};
    pcre2_get_error_message(code, text, sizeof text);
    return bad_input("{}: '{}' is no regular expression: {} at position {}", what, expression.substr(0, 200),
                     reinterpret_cast<const char*>(text), at);
  }
  Pattern p;
  p.code_ = std::shared_ptr<void>(c, [](void* v) { pcre2_code_free(static_cast<pcre2_code*>(v)); });
  p.expression_ = expression;
  p.what_ = what;
  return p;
}

Result<bool> Pattern::run(std::string_view subject, uint32_t options) const {
  auto* code = static_cast<pcre2_code*>(code_.get());
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create_from_pattern(code, nullptr),
                                                                      pcre2_match_data_free);
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(pcre2_match_context_create(nullptr),
                                                                               pcre2_match_context_free);
  if (!data || !context) return failed("{}: out of memory for a match", what_);
  pcre2_set_match_limit(context.get(), 1'000'000);
  pcre2_set_depth_limit(context.get(), 10'000);
  pcre2_set_heap_limit(context.get(), 16 << 10);  // KiB
  const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), 0, options, data.get(),
                             context.get());
  if (rc >= 0) return true;
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  return bad_input("{}: matching '{}' against '{}' takes too long; simplify the expression", what_,
                   expression_.substr(0, 200), subject.substr(0, 200));
}

Result<bool> Pattern::full_match(std::string_view s) const { return run(s, PCRE2_ANCHORED | PCRE2_ENDANCHORED); }
Result<bool> Pattern::match(std::string_view s) const { return run(s, PCRE2_ANCHORED); }
Result<bool> Pattern::search(std::string_view s) const { return run(s, 0); }

}  // namespace ingot::transform
