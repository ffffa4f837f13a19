// Fuzzes the reader of texts in jsonl: it gives UTF-8 or an error, and the same in whatever blocks the file comes.
#include <cstdlib>

#include "calibrate/json_lines.h"
#include "fuzzing.h"
#include "tokenizer/unicode.h"

namespace {

// In one block, or in many of 1 to `most` bytes.
ingot::Result<std::vector<ingot::calibrate::Text>> read(std::string_view text, const std::string& category, size_t most) {
  ingot::calibrate::JsonLines lines("f.jsonl", category, text.size());
  for (size_t n = most; !text.empty(); n = most > 7 ? most : n % most + 1) {
    n = std::min(n, text.size());
    if (auto s = lines.add(text.substr(0, n)); !s.ok()) return s.take_error();
    text.remove_prefix(n);
  }
  return lines.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = ingot::fuzzing::text(data, size);
  for (const std::string category : {"", "c"}) {
    const auto whole = read(text, category, SIZE_MAX), parts = read(text, category, 7);
    if (whole.ok() != parts.ok()) std::abort();
    if (!whole.ok()) {
      if (whole.error().message != parts.error().message || !ingot::unicode::is_valid_utf8(whole.error().message)) std::abort();
      continue;
    }
    if (whole->size() != parts->size() || whole->empty()) std::abort();
    size_t bytes = 0;
    for (size_t i = 0; i < whole->size(); ++i) {
      const auto& t = (*whole)[i];
      if (t.text != (*parts)[i].text || t.category != (*parts)[i].category || t.text.empty() || !ingot::unicode::is_valid_utf8(t.text)) std::abort();
      bytes += t.text.size();
    }
    // An escape is never longer than the character that it stands for.
    if (bytes > size) std::abort();
  }
  return 0;
}
