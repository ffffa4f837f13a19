// Upper and lower case as Python has them, characters that become several included.
#include <utf8proc.h>

#include <algorithm>

#include "tokenizer/jinja_text.h"
#include "tokenizer/unicode.h"

namespace ingot::jinja {
namespace {

// The characters whose capital or title form is more than one (SpecialCasing.txt of Unicode; Python: c.upper(), c.title()).
struct Special {
  char32_t c;
  const char *upper, *title;
};
constexpr Special kSpecial[] = {
    {0x00DF, "SS", "Ss"}, {0x0149, "\u02BCN", "\u02BCN"}, {0x01F0, "J\u030C", "J\u030C"}, {0x0390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x03B0, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"}, {0x0587, "\u0535\u0552", "\u0535\u0582"}, {0x1E96, "H\u0331", "H\u0331"},
    {0x1E97, "T\u0308", "T\u0308"}, {0x1E98, "W\u030A", "W\u030A"}, {0x1E99, "Y\u030A", "Y\u030A"}, {0x1E9A, "A\u02BE", "A\u02BE"},
    {0x1F50, "\u03A5\u0313", "\u03A5\u0313"}, {0x1F52, "\u03A5\u0313\u0300", "\u03A5\u0313\u0300"},
    {0x1F54, "\u03A5\u0313\u0301", "\u03A5\u0313\u0301"}, {0x1F56, "\u03A5\u0313\u0342", "\u03A5\u0313\u0342"}, {0x1F80, "\u1F08\u0399", "\u1F88"},
    {0x1F81, "\u1F09\u0399", "\u1F89"}, {0x1F82, "\u1F0A\u0399", "\u1F8A"}, {0x1F83, "\u1F0B\u0399", "\u1F8B"}, {0x1F84, "\u1F0C\u0399", "\u1F8C"},
    {0x1F85, "\u1F0D\u0399", "\u1F8D"}, {0x1F86, "\u1F0E\u0399", "\u1F8E"}, {0x1F87, "\u1F0F\u0399", "\u1F8F"}, {0x1F88, "\u1F08\u0399", "\u1F88"},
    {0x1F89, "\u1F09\u0399", "\u1F89"}, {0x1F8A, "\u1F0A\u0399", "\u1F8A"}, {0x1F8B, "\u1F0B\u0399", "\u1F8B"}, {0x1F8C, "\u1F0C\u0399", "\u1F8C"},
    {0x1F8D, "\u1F0D\u0399", "\u1F8D"}, {0x1F8E, "\u1F0E\u0399", "\u1F8E"}, {0x1F8F, "\u1F0F\u0399", "\u1F8F"}, {0x1F90, "\u1F28\u0399", "\u1F98"},
    {0x1F91, "\u1F29\u0399", "\u1F99"}, {0x1F92, "\u1F2A\u0399", "\u1F9A"}, {0x1F93, "\u1F2B\u0399", "\u1F9B"}, {0x1F94, "\u1F2C\u0399", "\u1F9C"},
    {0x1F95, "\u1F2D\u0399", "\u1F9D"}, {0x1F96, "\u1F2E\u0399", "\u1F9E"}, {0x1F97, "\u1F2F\u0399", "\u1F9F"}, {0x1F98, "\u1F28\u0399", "\u1F98"},
    {0x1F99, "\u1F29\u0399", "\u1F99"}, {0x1F9A, "\u1F2A\u0399", "\u1F9A"}, {0x1F9B, "\u1F2B\u0399", "\u1F9B"}, {0x1F9C, "\u1F2C\u0399", "\u1F9C"},
    {0x1F9D, "\u1F2D\u0399", "\u1F9D"}, {0x1F9E, "\u1F2E\u0399", "\u1F9E"}, {0x1F9F, "\u1F2F\u0399", "\u1F9F"}, {0x1FA0, "\u1F68\u0399", "\u1FA8"},
    {0x1FA1, "\u1F69\u0399", "\u1FA9"}, {0x1FA2, "\u1F6A\u0399", "\u1FAA"}, {0x1FA3, "\u1F6B\u0399", "\u1FAB"}, {0x1FA4, "\u1F6C\u0399", "\u1FAC"},
    {0x1FA5, "\u1F6D\u0399", "\u1FAD"}, {0x1FA6, "\u1F6E\u0399", "\u1FAE"}, {0x1FA7, "\u1F6F\u0399", "\u1FAF"}, {0x1FA8, "\u1F68\u0399", "\u1FA8"},
    {0x1FA9, "\u1F69\u0399", "\u1FA9"}, {0x1FAA, "\u1F6A\u0399", "\u1FAA"}, {0x1FAB, "\u1F6B\u0399", "\u1FAB"}, {0x1FAC, "\u1F6C\u0399", "\u1FAC"},
    {0x1FAD, "\u1F6D\u0399", "\u1FAD"}, {0x1FAE, "\u1F6E\u0399", "\u1FAE"}, {0x1FAF, "\u1F6F\u0399", "\u1FAF"},
    {0x1FB2, "\u1FBA\u0399", "\u1FBA\u0345"}, {0x1FB3, "\u0391\u0399", "\u1FBC"}, {0x1FB4, "\u0386\u0399", "\u0386\u0345"},
    {0x1FB6, "\u0391\u0342", "\u0391\u0342"}, {0x1FB7, "\u0391\u0342\u0399", "\u0391\u0342\u0345"}, {0x1FBC, "\u0391\u0399", "\u1FBC"},
    {0x1FC2, "\u1FCA\u0399", "\u1FCA\u0345"}, {0x1FC3, "\u0397\u0399", "\u1FCC"}, {0x1FC4, "\u0389\u0399", "\u0389\u0345"},
    {0x1FC6, "\u0397\u0342", "\u0397\u0342"}, {0x1FC7, "\u0397\u0342\u0399", "\u0397\u0342\u0345"}, {0x1FCC, "\u0397\u0399", "\u1FCC"},
    {0x1FD2, "\u0399\u0308\u0300", "\u0399\u0308\u0300"}, {0x1FD3, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x1FD6, "\u0399\u0342", "\u0399\u0342"}, {0x1FD7, "\u0399\u0308\u0342", "\u0399\u0308\u0342"},
    {0x1FE2, "\u03A5\u0308\u0300", "\u03A5\u0308\u0300"}, {0x1FE3, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
    {0x1FE4, "\u03A1\u0313", "\u03A1\u0313"}, {0x1FE6, "\u03A5\u0342", "\u03A5\u0342"}, {0x1FE7, "\u03A5\u0308\u0342", "\u03A5\u0308\u0342"},
    {0x1FF2, "\u1FFA\u0399", "\u1FFA\u0345"}, {0x1FF3, "\u03A9\u0399", "\u1FFC"}, {0x1FF4, "\u038F\u0399", "\u038F\u0345"},
    {0x1FF6, "\u03A9\u0342", "\u03A9\u0342"}, {0x1FF7, "\u03A9\u0342\u0399", "\u03A9\u0342\u0345"}, {0x1FFC, "\u03A9\u0399", "\u1FFC"},
    {0xFB00, "FF", "Ff"}, {0xFB01, "FI", "Fi"}, {0xFB02, "FL", "Fl"}, {0xFB03, "FFI", "Ffi"}, {0xFB04, "FFL", "Ffl"}, {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"}, {0xFB13, "\u0544\u0546", "\u0544\u0576"}, {0xFB14, "\u0544\u0535", "\u0544\u0565"},
    {0xFB15, "\u0544\u053B", "\u0544\u056B"}, {0xFB16, "\u054E\u0546", "\u054E\u0576"}, {0xFB17, "\u0544\u053D", "\u0544\u056D"}};

const Special* special(char32_t c) {
  const auto* it = std::lower_bound(std::begin(kSpecial), std::end(kSpecial), c, [](const Special& s, char32_t x) { return s.c < x; });
  return it != std::end(kSpecial) && it->c == c ? it : nullptr;
}

int32_t plain(char32_t c) { return static_cast<int32_t>(c); }

void append(std::string* out, int32_t c) { unicode::append_utf8(*out, static_cast<char32_t>(c)); }
void append_upper(std::string* out, char32_t c) {
  if (const Special* s = special(c)) *out += s->upper;
  else append(out, utf8proc_toupper(plain(c)));
}
void append_title(std::string* out, char32_t c) {
  if (const Special* s = special(c)) *out += s->title;
  else append(out, utf8proc_totitle(plain(c)));
}

bool is_lower_case(char32_t c) { return utf8proc_toupper(plain(c)) != plain(c) || special(c); }
bool is_upper_case(char32_t c) { return utf8proc_tolower(plain(c)) != plain(c); }
bool is_cased(char32_t c) {
  const auto k = utf8proc_category(plain(c));
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT || is_lower_case(c) || is_upper_case(c);
}
// What a final sigma is sought across.
bool is_case_ignorable(char32_t c) {
  switch (utf8proc_category(plain(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return std::u32string_view(U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A").find(c) != std::u32string_view::npos;
  }
}

// A capital sigma at the end of a word becomes a final one.
bool ends_word(std::string_view text, size_t at) {
  size_t i = at;
  bool before = false;
  while (i > 0 && !before) {
    i = previous_char_at(text, i);
    const char32_t c = char_at(text, i);
    if (is_case_ignorable(c)) continue;
    if (!is_cased(c)) return false;
    before = true;
  }
  if (!before) return false;
  for (i = next_char_at(text, at); i < text.size(); i = next_char_at(text, i)) {
    const char32_t c = char_at(text, i);
    if (!is_case_ignorable(c)) return !is_cased(c);
  }
  return true;
}

void append_lower(std::string* out, std::string_view text, size_t at) {
  const char32_t c = char_at(text, at);
  if (c == 0x0130) *out += "i\u0307";
  else if (c == 0x03A3) append(out, ends_word(text, at) ? 0x03C2 : 0x03C3);
  else append(out, utf8proc_tolower(plain(c)));
}

template <class F>
std::string each(std::string_view text, size_t from, F&& f) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = from; i < text.size(); i = next_char_at(text, i)) f(&out, i);
  return out;
}

}  // namespace

std::string upper(std::string_view text) {
  return each(text, 0, [&](std::string* out, size_t i) { append_upper(out, char_at(text, i)); });
}
std::string lower(std::string_view text) {
  return each(text, 0, [&](std::string* out, size_t i) { append_lower(out, text, i); });
}
std::string capitalized(std::string_view text) {
  return each(text, 0, [&](std::string* out, size_t i) { i == 0 ? append_title(out, char_at(text, i)) : append_lower(out, text, i); });
}
std::string titled(std::string_view text) {
  bool cased = false;  // the character before is a letter with case
  return each(text, 0, [&](std::string* out, size_t i) {
    cased ? append_lower(out, text, i) : append_title(out, char_at(text, i));
    cased = is_cased(char_at(text, i));
  });
}
std::string case_swapped(std::string_view text) {
  return each(text, 0, [&](std::string* out, size_t i) {
    const char32_t c = char_at(text, i);
    if (is_upper_case(c)) append_lower(out, text, i);
    else if (is_lower_case(c)) append_upper(out, c);
    else append(out, plain(c));
  });
}
std::string case_folded(std::string_view text) {
  return each(text, 0, [&](std::string* out, size_t i) {
    utf8proc_int32_t folded[8];
    int last = 0;
    const auto n = utf8proc_decompose_char(plain(char_at(text, i)), folded, 8, UTF8PROC_CASEFOLD, &last);
    for (utf8proc_ssize_t k = 0; k < std::min<utf8proc_ssize_t>(n, 8); ++k) append(out, folded[k]);
  });
}

}  // namespace ingot::jinja
