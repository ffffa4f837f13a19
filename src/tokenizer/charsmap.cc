#include "tokenizer/charsmap.h"

#include <utf8proc.h>

#include "base/bytes.h"
#include "tokenizer/unicode.h"

namespace ingot {

namespace {

// Whether a cluster ends between the two. Marks added by Unicode 16 and 17 the library knows, whatever utf8proc is installed.
bool ends_between(char32_t before, char32_t c, utf8proc_int32_t* state) {
  if (before < 128 && c < 128) return before != '\r' || c != '\n';
  if (c == 0x897 || (c >= 0x1ACF && c <= 0x1ADD) || (c >= 0x1AE0 && c <= 0x1AEB)) return false;
  return utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before), static_cast<utf8proc_int32_t>(c), state);
}

}  // namespace

// A unit of the array: bits 0-7 and 31 are the label, 8 says that the text so far is in the map, 9 scales the offset in 10-30. The
// value of a text is in the unit behind it.
template <class F>
void Charsmap::prefixes(std::string_view text, F&& f) const {
  const auto offset = [](uint32_t unit) { return static_cast<uint64_t>(unit >> 10) << ((unit & (1u << 9)) >> 6); };
  uint64_t at = units_.empty() ? 0 : offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    at ^= c;
    if (at >= units_.size() || (units_[at] & (1u << 31 | 0xFFu)) != c) return;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if ((unit >> 8 & 1) == 0) continue;
    if (at >= units_.size() || !f(i + 1, replacement(units_[at] & ((1u << 31) - 1)))) return;
  }
}

std::string_view Charsmap::replacement(uint32_t at) const {
  if (at >= texts_.size()) return {};
  return std::string_view(texts_).substr(at, texts_.find('\0', at) - at);  // parse() saw to a zero at the end
}

std::optional<std::string_view> Charsmap::shortest(std::string_view text) const {
  std::optional<std::string_view> out;
  prefixes(text, [&](size_t, std::string_view r) {
    out = r;
    return false;
  });
  return out;
}

void Charsmap::apply_longest(std::string_view text, size_t limit, std::string& out) const {
  while (!text.empty() && out.size() <= limit) {
    const char* p = text.data();
    unicode::next_char(p);
    size_t length = static_cast<size_t>(p - text.data());
    std::string_view part = text.substr(0, length);
    prefixes(text, [&](size_t n, std::string_view r) {
      if (n == text.size() || (static_cast<uint8_t>(text[n]) & 0xC0) != 0x80) length = n, part = r;  // whole characters
      return true;
    });
    out.append(part);
    text.remove_prefix(length);
  }
}

void Charsmap::apply(std::string_view text, size_t limit, std::string& out) const {
  constexpr size_t kMostBytes = 5;
  const auto put = [&](std::string_view part) {
    const auto r = shortest(part);
    out.append(r ? *r : part);
  };
  for (const char *p = text.data(), *end = p + text.size(); p < end && out.size() <= limit;) {
    const char* from = p;
    char32_t before = unicode::next_char(p);
    utf8proc_int32_t state = 0;
    const char* next = p;
    while (p < end) {
      const char32_t c = unicode::next_char(next);
      if (ends_between(before, c, &state)) break;
      before = c;
      p = next;
    }
    const std::string_view cluster(from, static_cast<size_t>(p - from));
    if (cluster.size() <= kMostBytes) {
      if (const auto r = shortest(cluster)) {
        out.append(*r);
        continue;
      }
    }
    for (const char *q = from; q < p;) {
      const char* at = q;
      unicode::next_char(q);
      put({at, static_cast<size_t>(q - at)});
    }
  }
}

Result<Charsmap> Charsmap::parse(std::string_view bytes) {
  Charsmap map;
  ByteReader reader(as_bytes(bytes));
  uint32_t size = 0;
  ByteView array;
  if (!reader.read(&size) || size % 4 != 0 || !reader.view(size, &array))
    return bad_input("precompiled_charsmap: {} bytes found, whose first four say that an array of {} follows: it is damaged", bytes.size(), size);
  map.units_.resize(size / 4);
  if (size > 0) std::memcpy(map.units_.data(), array.data(), size);
  map.texts_ = bytes.substr(4 + size);
  if (!unicode::is_valid_utf8(map.texts_)) return bad_input("precompiled_charsmap: its texts are not UTF-8: it is damaged");
  if (!map.texts_.ends_with('\0')) map.texts_ += '\0';
  map.bytes_ = bytes;
  return map;
}

}  // namespace ingot
