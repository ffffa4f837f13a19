// Fuzzes the reader of small JSON files: its three readers agree, what it writes it reads again, and what it makes for strict
// parsers is strict.
#include <cstdlib>

#include "formats/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto ordered = ingot::parse_json_ordered(text, "f");
  const auto sorted = ingot::parse_json(text, "f");
  const auto strict = ingot::strict_json(text, "f");
  if (ordered.ok() != sorted.ok() || ordered.ok() != strict.ok()) std::abort();
  if (!ordered.ok()) {
    // nlohmann's reader takes less, but for a zero byte, which it takes for the end.
    const bool takes = text.find('\0') == std::string_view::npos && ingot::Json::accept(text);
    if (takes && ordered.error().message.find("nested deeper") == std::string::npos) std::abort();
    return 0;
  }
  if (!ingot::Json::accept(*strict)) std::abort();
  const std::string written = ingot::json_text(*ordered);
  const auto again = ingot::parse_json_ordered(written, "f");
  if (!again.ok() || ingot::json_text(*again) != written) std::abort();
  (void)ingot::json_brief(*sorted);
  (void)ingot::json_shown(*ordered).dump(-1, ' ', false, ingot::OrderedJson::error_handler_t::replace);
  return 0;
}
