// Fuzzes the interpreter of chat templates: whatever the template, it ends within its bounds with a text or an error, and the text is UTF-8.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tokenizer/jinja.h"
#include "tokenizer/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const ingot::ChatRequest request = [] {
    ingot::ChatRequest r;
    r.messages = ingot::OrderedJson::parse(R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "h\u00e9 \ud83d\ude42"}]},
      {"role": "assistant", "content": "", "reasoning": "so", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"x": [1, -2.5, true, null]}}}]},
      {"role": "tool", "content": "3"}])");
    r.tools = ingot::OrderedJson::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "array"}}, "required": ["x"]}}}])");
    r.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    r.now = std::tm{};
    r.limits = {int64_t{16} << 20, 200'000};
    return r;
  }();
  const auto out = ingot::render_chat(std::string(text), request);
  if (out.ok() && !ingot::unicode::is_valid_utf8(*out)) std::abort();
  return 0;
}
