// UTF-8 and Unicode facts for tokenizers, over simdjson's validation and utf8proc's tables.
#include "tokenizer/unicode.h"

#include <simdjson.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "tokenizer/unicode_ranges.h"

namespace ingot::unicode {
namespace {

// Classifies the sequence at the start of s: its length when well-formed; 0 when s ends inside a sequence
// that may still become well-formed; else minus the length of the maximal ill-formed subpart.
int sequence_length(std::string_view s) {
  const auto b = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = b(0);
  if (lead < 0x80) return 1;
  int n;
  uint8_t lo = 0x80, hi = 0xBF;  // bounds of the second byte (Unicode table 3-7)
  if (lead >= 0xC2 && lead <= 0xDF) {
    n = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    n = 3;
    if (lead == 0xE0) lo = 0xA0;
    if (lead == 0xED) hi = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    n = 4;
    if (lead == 0xF0) lo = 0x90;
    if (lead == 0xF4) hi = 0x8F;
  } else {
    return -1;
  }
  for (int i = 1; i < n; ++i) {
    if (static_cast<size_t>(i) == s.size()) return 0;
    const uint8_t c = b(i);
    if (c < lo || c > hi) return -i;
    lo = 0x80, hi = 0xBF;
  }
  return n;
}

struct ByteAlphabet {
  std::array<char32_t, 256> chars{};
  std::array<int16_t, 512> bytes{};
  ByteAlphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      chars[b] = printable ? static_cast<char32_t>(b) : next++;
      bytes[chars[b]] = static_cast<int16_t>(b);
    }
  }
};
const ByteAlphabet& alphabet() {
  static const ByteAlphabet a;
  return a;
}

// Punctuation beyond ASCII as of Unicode 8: that is what the crate behind the library's Punctuation knows,
// and pieces must not depend on the version of utf8proc.
constexpr Range kPunctuation[] = {
    {0xA1, 0xA1},       {0xA7, 0xA7},       {0xAB, 0xAB},       {0xB6, 0xB7},       {0xBB, 0xBB},
    {0xBF, 0xBF},       {0x37E, 0x37E},     {0x387, 0x387},     {0x55A, 0x55F},     {0x589, 0x58A},
    {0x5BE, 0x5BE},     {0x5C0, 0x5C0},     {0x5C3, 0x5C3},     {0x5C6, 0x5C6},     {0x5F3, 0x5F4},
    {0x609, 0x60A},     {0x60C, 0x60D},     {0x61B, 0x61B},     {0x61E, 0x61F},     {0x66A, 0x66D},
    {0x6D4, 0x6D4},     {0x700, 0x70D},     {0x7F7, 0x7F9},     {0x830, 0x83E},     {0x85E, 0x85E},
    {0x964, 0x965},     {0x970, 0x970},     {0xAF0, 0xAF0},     {0xDF4, 0xDF4},     {0xE4F, 0xE4F},
    {0xE5A, 0xE5B},     {0xF04, 0xF12},     {0xF14, 0xF14},     {0xF3A, 0xF3D},     {0xF85, 0xF85},
    {0xFD0, 0xFD4},     {0xFD9, 0xFDA},     {0x104A, 0x104F},   {0x10FB, 0x10FB},   {0x1360, 0x1368},
    {0x1400, 0x1400},   {0x166D, 0x166E},   {0x169B, 0x169C},   {0x16EB, 0x16ED},   {0x1735, 0x1736},
    {0x17D4, 0x17D6},   {0x17D8, 0x17DA},   {0x1800, 0x180A},   {0x1944, 0x1945},   {0x1A1E, 0x1A1F},
    {0x1AA0, 0x1AA6},   {0x1AA8, 0x1AAD},   {0x1B5A, 0x1B60},   {0x1BFC, 0x1BFF},   {0x1C3B, 0x1C3F},
    {0x1C7E, 0x1C7F},   {0x1CC0, 0x1CC7},   {0x1CD3, 0x1CD3},   {0x2010, 0x2027},   {0x2030, 0x2043},
    {0x2045, 0x2051},   {0x2053, 0x205E},   {0x207D, 0x207E},   {0x208D, 0x208E},   {0x2308, 0x230B},
    {0x2329, 0x232A},   {0x2768, 0x2775},   {0x27C5, 0x27C6},   {0x27E6, 0x27EF},   {0x2983, 0x2998},
    {0x29D8, 0x29DB},   {0x29FC, 0x29FD},   {0x2CF9, 0x2CFC},   {0x2CFE, 0x2CFF},   {0x2D70, 0x2D70},
    {0x2E00, 0x2E2E},   {0x2E30, 0x2E42},   {0x3001, 0x3003},   {0x3008, 0x3011},   {0x3014, 0x301F},
    {0x3030, 0x3030},   {0x303D, 0x303D},   {0x30A0, 0x30A0},   {0x30FB, 0x30FB},   {0xA4FE, 0xA4FF},
    {0xA60D, 0xA60F},   {0xA673, 0xA673},   {0xA67E, 0xA67E},   {0xA6F2, 0xA6F7},   {0xA874, 0xA877},
    {0xA8CE, 0xA8CF},   {0xA8F8, 0xA8FA},   {0xA8FC, 0xA8FC},   {0xA92E, 0xA92F},   {0xA95F, 0xA95F},
    {0xA9C1, 0xA9CD},   {0xA9DE, 0xA9DF},   {0xAA5C, 0xAA5F},   {0xAADE, 0xAADF},   {0xAAF0, 0xAAF1},
    {0xABEB, 0xABEB},   {0xFD3E, 0xFD3F},   {0xFE10, 0xFE19},   {0xFE30, 0xFE52},   {0xFE54, 0xFE61},
    {0xFE63, 0xFE63},   {0xFE68, 0xFE68},   {0xFE6A, 0xFE6B},   {0xFF01, 0xFF03},   {0xFF05, 0xFF0A},
    {0xFF0C, 0xFF0F},   {0xFF1A, 0xFF1B},   {0xFF1F, 0xFF20},   {0xFF3B, 0xFF3D},   {0xFF3F, 0xFF3F},
    {0xFF5B, 0xFF5B},   {0xFF5D, 0xFF5D},   {0xFF5F, 0xFF65},   {0x10100, 0x10102}, {0x1039F, 0x1039F},
    {0x103D0, 0x103D0}, {0x1056F, 0x1056F}, {0x10857, 0x10857}, {0x1091F, 0x1091F}, {0x1093F, 0x1093F},
    {0x10A50, 0x10A58}, {0x10A7F, 0x10A7F}, {0x10AF0, 0x10AF6}, {0x10B39, 0x10B3F}, {0x10B99, 0x10B9C},
    {0x11047, 0x1104D}, {0x110BB, 0x110BC}, {0x110BE, 0x110C1}, {0x11140, 0x11143}, {0x11174, 0x11175},
    {0x111C5, 0x111C9}, {0x111CD, 0x111CD}, {0x111DB, 0x111DB}, {0x111DD, 0x111DF}, {0x11238, 0x1123D},
    {0x112A9, 0x112A9}, {0x114C6, 0x114C6}, {0x115C1, 0x115D7}, {0x11641, 0x11643}, {0x1173C, 0x1173E},
    {0x12470, 0x12474}, {0x16A6E, 0x16A6F}, {0x16AF5, 0x16AF5}, {0x16B37, 0x16B3B}, {0x16B44, 0x16B44},
    {0x1BC9F, 0x1BC9F}, {0x1DA87, 0x1DA8B}};
// Numbers added by Unicode 16 and 17, which the library's char::is_numeric knows.
constexpr Range kRecentNumbers[] = {{0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9},
                                    {0x11DE0, 0x11DE9}, {0x16130, 0x16139}, {0x16D70, 0x16D79},
                                    {0x16FF4, 0x16FF6}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA}};
// Word characters added by Unicode 15.1 and 16.
constexpr Range kRecentWords[] = {{0x897, 0x897}, {0x1C89, 0x1C8A}, {0xA7CB, 0xA7CD}, {0xA7DA, 0xA7DC}, {0x105C0, 0x105F3},
                                  {0x10D40, 0x10D65}, {0x10D69, 0x10D6D}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x10EFC, 0x10EFC},
                                  {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113C0},
                                  {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D3}, {0x113E1, 0x113E2},
                                  {0x116D0, 0x116E3}, {0x11BC0, 0x11BE0}, {0x11BF0, 0x11BF9}, {0x11F5A, 0x11F5A}, {0x13460, 0x143FA},
                                  {0x16100, 0x16139}, {0x16D40, 0x16D6C}, {0x16D70, 0x16D79}, {0x18CFF, 0x18CFF}, {0x1CCF0, 0x1CCF9},
                                  {0x1E5D0, 0x1E5FA}, {0x2EBF0, 0x2EE5D}};
// Capitals added by Unicode 16 and 17, and how far behind them their small letters are.
struct Capitals {
  char32_t first, last;
  int32_t step, to_small;
};
constexpr Capitals kRecentCapitals[] = {{0x1C89, 0x1C89, 1, 1}, {0xA7CB, 0xA7CB, 1, 0x264 - 0xA7CB}, {0xA7CC, 0xA7DA, 2, 1}, {0xA7DC, 0xA7DC, 1, 0x19B - 0xA7DC},
                                        {0x10D50, 0x10D65, 1, 0x20}, {0x16EA0, 0x16EB8, 1, 0x1B}};
// Compatibility decompositions younger than the crate behind the library's NFKC and NFKD: left alone.
constexpr Range kRecentCompatibility[] = {{0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xAB69, 0xAB69},
                                          {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA},
                                          {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

template <size_t N>
bool is_in(const Range (&ranges)[N], char32_t c) {
  const auto* it =
      std::upper_bound(ranges, ranges + N, c, [](char32_t v, const Range& r) { return v < r.first; });
  return it != ranges && c <= it[-1].last;
}

int category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

char32_t to_lower(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 0x20 : c;
  for (const Capitals& r : kRecentCapitals)
    if (c >= r.first && c <= r.last && (c - r.first) % r.step == 0) return static_cast<char32_t>(static_cast<int32_t>(c) + r.to_small);
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

// Normalizes one segment. utf8proc's own reordering is quadratic in a run of marks, so decomposition is
// sorted here.
void normalize_segment(std::string_view text, Form form, std::vector<utf8proc_int32_t>& buffer,
                       std::string& out) {
  const bool compat = form == Form::kNFKC || form == Form::kNFKD;
  const bool compose = form == Form::kNFC || form == Form::kNFKC;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0));
  buffer.clear();
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char32_t c = next_char(p);
    if (compat && is_in(kRecentCompatibility, c)) {
      buffer.push_back(static_cast<utf8proc_int32_t>(c));
      continue;
    }
    utf8proc_int32_t d[64];
    int last = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), d, 64, options, &last);
    if (n < 0 || n > 64) {
      buffer.push_back(static_cast<utf8proc_int32_t>(c));
    } else {
      buffer.insert(buffer.end(), d, d + n);
    }
  }
  std::vector<std::pair<uint64_t, utf8proc_int32_t>> marks;  // (class, place) keeps equal classes in order
  // Of marks that the crate behind the library does not know (younger than Unicode 9) it takes none for one.
  const auto ccc = [](utf8proc_int32_t c) {
    return c >= 0x300 && is_in(kMarks, static_cast<char32_t>(c)) ? utf8proc_get_property(c)->combining_class : 0;
  };
  for (size_t i = 0; i < buffer.size();) {
    if (ccc(buffer[i]) == 0) {
      ++i;
      continue;
    }
    size_t j = i;
    while (j < buffer.size() && ccc(buffer[j]) != 0) ++j;
    if (j - i > 1) {
      marks.clear();
      for (size_t k = i; k < j; ++k)
        marks.push_back({static_cast<uint64_t>(ccc(buffer[k])) << 32 | k, buffer[k]});
      std::sort(marks.begin(), marks.end());
      for (size_t k = i; k < j; ++k) buffer[k] = marks[k - i].second;
    }
    i = j;
  }
  // utf8proc composes U+11A7, one before the first trailing jamo, away: compose the runs between them.
  constexpr utf8proc_int32_t kBeforeJamo = 0x11A7;
  const auto compose_option = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  for (auto from = buffer.begin(); from != buffer.end();) {
    const auto to = std::find(from, buffer.end(), kBeforeJamo);
    auto length = static_cast<utf8proc_ssize_t>(to - from);
    if (compose && length > 1) {
      const auto n = utf8proc_normalize_utf32(&*from, length, compose_option);
      if (n >= 0) length = n;
    }
    for (utf8proc_ssize_t i = 0; i < length; ++i) append_utf8(out, static_cast<char32_t>(from[i]));
    if (to == buffer.end()) break;
    append_utf8(out, kBeforeJamo);
    from = to + 1;
  }
}

}  // namespace

bool is_valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

size_t well_formed_prefix(std::string_view text) {
  size_t at = 0;
  for (int n = 1; at < text.size() && (n = sequence_length(text.substr(at))) > 0;) at += static_cast<size_t>(n);
  return at;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const int n = sequence_length(text);
    if (n > 0) {
      out.append(text.substr(0, n));
      text.remove_prefix(n);
    } else {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(n < 0 ? -n : text.size());
    }
  }
  return out;
}

size_t complete_prefix(std::string_view text) {
  const size_t n = text.size();
  // Only the last three bytes can open a character that is not finished.
  for (size_t back = 1; back <= std::min<size_t>(3, n); ++back) {
    const auto c = static_cast<uint8_t>(text[n - back]);
    if (c < 0x80) break;
    if (c >= 0xC0) return sequence_length(text.substr(n - back)) == 0 ? n - back : n;
  }
  return n;
}

char32_t next_char(const char*& p) {
  const auto* u = reinterpret_cast<const uint8_t*>(p);
  if (u[0] < 0x80) {
    p += 1;
    return u[0];
  }
  if (u[0] < 0xE0) {
    p += 2;
    return ((u[0] & 0x1Fu) << 6) | (u[1] & 0x3Fu);
  }
  if (u[0] < 0xF0) {
    p += 3;
    return ((u[0] & 0x0Fu) << 12) | ((u[1] & 0x3Fu) << 6) | (u[2] & 0x3Fu);
  }
  p += 4;
  return ((u[0] & 0x07u) << 18) | ((u[1] & 0x3Fu) << 12) | ((u[2] & 0x3Fu) << 6) | (u[3] & 0x3Fu);
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

char32_t byte_to_char(uint8_t byte) { return alphabet().chars[byte]; }

void append_byte_chars(std::string& out, std::string_view bytes) {
  for (const char b : bytes) append_utf8(out, byte_to_char(static_cast<uint8_t>(b)));
}

bool byte_chars_to_bytes(std::string_view text, std::string& out) {
  out.clear();
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char32_t c = next_char(p);
    const int b = c < 512 ? alphabet().bytes[c] : -1;
    if (b < 0) return false;
    out += static_cast<char>(b);
  }
  return true;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const int g = category(c);
  return g == UTF8PROC_CATEGORY_ND || g == UTF8PROC_CATEGORY_NL || g == UTF8PROC_CATEGORY_NO ||
         is_in(kRecentNumbers, c);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
           (c >= 0x7B && c <= 0x7E);
  }
  return is_in(kPunctuation, c);
}

bool is_other(char32_t c) { return is_in(kOther, c); }

bool is_nonspacing_mark(char32_t c) { return c >= 0x300 && is_in(kNonspacingMarks, c); }

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_word(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  const int g = category(c);
  if (g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_NL) return true;  // L*, M*, Nd, Nl
  if (g == UTF8PROC_CATEGORY_PC) return true;
  // Other_Alphabetic that is neither letter nor mark (circled and squared letters), and the joiners.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D || is_in(kRecentWords, c);
}

std::string normalize(std::string_view text, Form form) {
  // Bytes below the bound are characters that the form leaves alone (up to U+02FF for NFC), and an ASCII
  // character never joins what stands before it: so only the stretches in between go through the tables.
  const uint8_t bound = form == Form::kNFC ? 0xCC : 0x80;
  std::string out;
  out.reserve(text.size() + 16);
  std::vector<utf8proc_int32_t> buffer;
  size_t i = 0;
  while (i < text.size()) {
    size_t j = i;
    while (j < text.size() && static_cast<uint8_t>(text[j]) < bound) ++j;
    if (j == text.size()) {
      out.append(text.substr(i));
      break;
    }
    // The segment starts at the last ASCII character before the stretch (a mark may join it).
    size_t start = j;
    while (start > i && static_cast<uint8_t>(text[start - 1]) >= 0x80) --start;
    if (start > i) --start;
    out.append(text.substr(i, start - i));
    size_t end = j;
    while (end < text.size() && static_cast<uint8_t>(text[end]) >= 0x80) ++end;
    normalize_segment(text.substr(start, end - start), form, buffer, out);
    i = end;
  }
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char32_t c = next_char(p);
    if (c == 0x130) {
      out += "i\xCC\x87";  // the one unconditional full mapping of SpecialCasing.txt
    } else {
      append_utf8(out, to_lower(c));
    }
  }
  return out;
}

std::string strip_accents(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char* from = p;
    const char32_t c = next_char(p);
    if (c < 0x300 || !is_in(kMarks, c)) out.append(from, p);
  }
  return out;
}

}  // namespace ingot::unicode
