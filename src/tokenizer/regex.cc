// Compiles and runs translated patterns with PCRE2, within bounds of steps, memory and time.
#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <time.h>

#include <algorithm>

#include "tokenizer/recent_characters.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr size_t kMaxPattern = 64 << 10;
constexpr size_t kMaxJitCode = 1 << 20;        // compiled size above which JIT is not worth its time
constexpr uint32_t kHeapLimitKiB = 256 << 10;  // backtracking frames of one match
constexpr size_t kWindow =
    512;  // start positions tried by one call of an untrusted pattern: the time is checked between

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Workspace {
  pcre2_match_data* data = nullptr;  // one pair of offsets is enough for all patterns
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  Workspace() {
    data = pcre2_match_data_create(1, nullptr);
    context = pcre2_match_context_create(nullptr);
    stack = pcre2_jit_stack_create(32 << 10, 4 << 20, nullptr);
    if (context && stack) pcre2_jit_stack_assign(context, nullptr, stack);
    if (context) pcre2_set_heap_limit(context, kHeapLimitKiB);
  }
  ~Workspace() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  // The frames of the last match stay with the match data; a large set is not worth keeping.
  void trim() {
    pcre2_match_data_free(data);
    data = pcre2_match_data_create(1, nullptr);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
};

std::shared_ptr<Regex::Workspace> Regex::new_workspace() { return std::make_shared<Workspace>(); }

struct Regex::Code {
  std::string pattern;
  pcre2_code* codes[2] = {nullptr, nullptr};  // for most texts, and for those with recent characters
  bool jit = false;                           // of both
  bool trusted = false;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    for (auto* c : codes) pcre2_code_free(c);
  }
};

Result<Regex> Regex::compile(std::string_view pattern, bool trusted) {
  if (pattern.size() > kMaxPattern) {
    return bad_input("the pattern {} is {} bytes long; at most {} are accepted", quoted(pattern),
                     pattern.size(), kMaxPattern);
  }
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (!context) return failed("no memory to compile a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_bsr(context.get(), PCRE2_BSR_UNICODE);
  auto code = std::make_shared<Code>();
  code->pattern = std::string(pattern);
  code->trusted = trusted;
  code->jit = trusted;
  const uint32_t options =
      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | (trusted ? 0 : PCRE2_USE_OFFSET_LIMIT);
  for (const bool recent : {false, true}) {
    INGOT_ASSIGN(const std::string translated, translate_oniguruma(pattern, recent));
    int error = 0;
    size_t offset = 0;
    auto*& compiled = code->codes[recent];
    compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options,
                             &error, &offset, context.get());
    if (!compiled) return bad_input("the pattern {} is not accepted: {}", quoted(pattern), message_of(error));
    size_t size = 0;
    pcre2_pattern_info(compiled, PCRE2_INFO_SIZE, &size);
    if (trusted && (size > kMaxJitCode || pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) != 0))
      code->jit = false;
  }
  Regex regex;
  regex.code_ = std::move(code);
  return regex;
}

Regex::Iterator::Iterator(const Regex& regex, std::string_view text, Workspace& workspace)
    : regex_(regex), workspace_(workspace), text_(text), recent_(has_recent_characters(text)) {
  // Steps: real patterns pass over a run of characters a few times; a hostile one needs far more.
  match_limit_ = static_cast<uint32_t>(std::min<size_t>(500'000 + 8 * text.size(), 1u << 31));
}

bool Regex::Iterator::over_budget() {
  // Real patterns need well under a microsecond a byte in total.
  const double now = thread_seconds();
  if (deadline_ == 0) {
    deadline_ = now + 2.0 + 5e-6 * static_cast<double>(text_.size());
    return false;
  }
  if (now < deadline_) return false;
  status_ = bad_input("the pattern {} takes too long on a text of {} bytes", quoted(regex_.code_->pattern),
                      text_.size());
  return true;
}

bool Regex::Iterator::next(size_t* begin, size_t* end) {
  const Code& code = *regex_.code_;
  Workspace& w = workspace_;
  if (!w.data || !w.context) {
    status_ = failed("no memory to match a pattern");
    return false;
  }
  pcre2_set_match_limit(w.context, match_limit_);
  while (at_ <= text_.size()) {
    size_t window_end = text_.size();
    if (!code.trusted) {
      if (calls_++ % 16 == 0 && over_budget()) return false;
      window_end = std::min(text_.size(), at_ + kWindow);
      while (window_end < text_.size() && (static_cast<uint8_t>(text_[window_end]) & 0xC0) == 0x80)
        ++window_end;
      pcre2_set_offset_limit(w.context, window_end);
    } else {
      pcre2_set_offset_limit(w.context, PCRE2_UNSET);
    }
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
    int rc =
        pcre2_match(code.codes[recent_], subject, text_.size(), at_, PCRE2_NO_UTF_CHECK, w.data, w.context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code.codes[recent_], subject, text_.size(), at_, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       w.data, w.context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
      if (window_end >= text_.size()) {
        if (!code.jit && text_.size() > (1 << 20)) w.trim();
        return false;
      }
      at_ = window_end + 1;  // offset_limit is inclusive
      while (at_ < text_.size() && (static_cast<uint8_t>(text_[at_]) & 0xC0) == 0x80) ++at_;
      continue;
    }
    if (rc < 0) {
      status_ = bad_input("the pattern {} fails on a text of {} bytes: {}", quoted(code.pattern),
                          text_.size(), message_of(rc));
      return false;
    }
    const size_t* ovector = pcre2_get_ovector_pointer(w.data);
    const size_t b = ovector[0], e = ovector[1];
    if (b > e || b < at_) {  // \K in a lookaround can put the start anywhere
      status_ =
          bad_input("the pattern {} gives a match that starts outside its own range", quoted(code.pattern));
      return false;
    }
    if (b == e && last_end_ == e) {
      ++at_;
      while (at_ < text_.size() && (static_cast<uint8_t>(text_[at_]) & 0xC0) == 0x80) ++at_;
      continue;
    }
    at_ = e;
    last_end_ = e;
    *begin = b;
    *end = e;
    return true;
  }
  return false;
}

}  // namespace ingot
