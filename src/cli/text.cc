// Text for people: sizes, times, columns.
#include "cli/text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace ingot::cli {

std::string format_bytes(uint64_t bytes) {
  static const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double v = static_cast<double>(bytes);
  int u = 0;
  // 999.95 would print as 1000.0
  while (v >= 999.5 && u < 6) v /= 1000, ++u;
  return fmt::format("{:.{}f} {}", v, v < 9.995 ? 2 : v < 99.95 ? 1 : 0, kUnits[u]);
}

std::string format_duration(double s) {
  if (!(s >= 0) || s > 1e9) return "?";
  if (s < 0.0995) return fmt::format("{:.0f} ms", s * 1000);
  if (s < 9.95) return fmt::format("{:.1f} s", s);
  if (s < 59.5) return fmt::format("{:.0f} s", s);
  const uint64_t t = static_cast<uint64_t>(std::llround(s));
  if (t < 3600) return fmt::format("{}:{:02}", t / 60, t % 60);
  return fmt::format("{}:{:02}:{:02}", t / 3600, t / 60 % 60, t % 60);
}

std::string format_rate(double r) {
  return r >= 0 && r < 1e18 ? format_bytes(static_cast<uint64_t>(r)) + "/s" : "?";
}

std::string format_count(uint64_t n) {
  std::string s = std::to_string(n);
  for (int i = static_cast<int>(s.size()) - 3; i > 0; i -= 3) s.insert(static_cast<size_t>(i), 1, ',');
  return s;
}
std::string count_of(uint64_t n, std::string_view what) { return fmt::format("{} {}{}", format_count(n), what, n == 1 ? "" : "s"); }

std::string nonfinite_text(uint64_t nan, uint64_t infinite) {
  std::string text = nan ? format_count(nan) + " NaN" : "";
  if (infinite) text += fmt::format("{}{} infinite", nan ? ", " : "", format_count(infinite));
  return text;
}

Result<uint64_t> parse_size(std::string_view text, double letter) {
  double v = 0;
  const char* end = text.data() + text.size();
  auto [p, ec] = std::from_chars(text.data(), end, v, std::chars_format::fixed);
  if (ec != std::errc() || v < 0 || !std::isfinite(v))
    return usage("'{}' is not a size; write it like 512M, 5GB or 4.5GiB", text);
  while (p < end && *p == ' ') ++p;
  const std::string unit = lower({p, static_cast<size_t>(end - p)});
  double scale = 0;
  if (unit.empty()) {
    scale = 1;
  } else if (unit == "b") {
    return usage("'{}': a bare B may mean bytes or billions of parameters; write it like 512M, 5GB or 4.5GiB",
                 text);
  } else if (const size_t power = std::string_view("kmgt").find(unit[0]); power != std::string_view::npos) {
    if (unit.size() == 1) scale = std::pow(letter, double(power + 1));
    if (unit.substr(1) == "ib") scale = std::pow(1024.0, double(power + 1));
    if (unit.size() == 2 && unit[1] == 'b') scale = std::pow(1000.0, double(power + 1));
  }
  if (scale == 0) return usage("'{}' is not a size; write it like 512M, 5GB or 4.5GiB", text);
  if (v * scale >= 9e18) return usage("'{}' is too large a size", text);
  return static_cast<uint64_t>(std::llround(v * scale));
}

Result<double> parse_duration(std::string_view text) {
  double v = 0;
  const char* end = text.data() + text.size();
  const auto [p, ec] = std::from_chars(text.data(), end, v, std::chars_format::fixed);
  const std::string unit = ec == std::errc() ? lower({p, static_cast<size_t>(end - p)}) : "?";
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  // A year is longer than any machine is lent.
  if (scale == 0 || !(v >= 0) || !(v * scale <= 366 * 86400.0))
    return usage("'{}' is not a time; write it like 30, 30s, 10m or 1h", text);
  return v * scale;
}

namespace {

// Length of the UTF-8 sequence at the front (0: broken or cut off) and its code point.
size_t decode(std::string_view s, uint32_t* cp) {
  const auto b = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  if (s.empty()) return 0;
  const unsigned char c = b(0);
  const size_t n = c < 0x80                ? 1
                   : c >= 0xc2 && c < 0xe0 ? 2
                   : c >= 0xe0 && c < 0xf0 ? 3
                   : c >= 0xf0 && c < 0xf5 ? 4
                                           : 0;
  if (n == 0 || s.size() < n) return 0;
  uint32_t v = n == 1 ? c : c & (0xff >> (n + 1));
  for (size_t i = 1; i < n; ++i) {
    if ((b(i) & 0xc0) != 0x80) return 0;
    v = v << 6 | (b(i) & 0x3f);
  }
  if ((n == 3 && (v < 0x800 || (v >= 0xd800 && v < 0xe000))) || (n == 4 && (v < 0x10000 || v > 0x10ffff)))
    return 0;
  *cp = v;
  return n;
}

// Of no width; what comes after is shown in another order, or in another line.
bool turns_text(uint32_t cp) {
  return cp == 0x61c || cp == 0x200e || cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

int width_of(uint32_t cp) {
  if (cp == 0x200d || (cp >= 0x300 && cp < 0x370) || (cp >= 0xfe00 && cp <= 0xfe0f)) return 0;  // combining
  const bool wide = (cp >= 0x1100 && cp <= 0x115f) || (cp >= 0x2e80 && cp <= 0xa4cf) ||
                    (cp >= 0xac00 && cp <= 0xd7a3) || (cp >= 0xf900 && cp <= 0xfaff) ||
                    (cp >= 0xfe30 && cp <= 0xfe6f) || (cp >= 0xff00 && cp <= 0xff60) ||
                    (cp >= 0x1f300 && cp <= 0x1faff) || (cp >= 0x20000 && cp <= 0x3fffd);
  return wide ? 2 : 1;
}

}  // namespace

int display_width(std::string_view s) {
  int w = 0;
  while (!s.empty()) {
    uint32_t cp = 0;
    const size_t n = decode(s, &cp);
    w += n ? width_of(cp) : 1;
    s.remove_prefix(n ? n : 1);
  }
  return w;
}

std::string shorten_middle(std::string_view s, int width) {
  const int w = display_width(s);
  if (w <= width) return std::string(s);
  if (width <= 0) return "";
  if (width < 4) return std::string(static_cast<size_t>(width), '.');
  // Keep the head and (more of) the tail, by columns.
  const int head = (width - 2) / 2, tail = width - 2 - head;
  std::string out;
  int at = 0;
  bool gap = false;
  while (!s.empty()) {
    uint32_t cp = 0;
    size_t n = decode(s, &cp);
    const int cw = n ? width_of(cp) : 1;
    if (n == 0) n = 1;
    if (at + cw <= head || at >= w - tail) {
      out.append(s.substr(0, n));
    } else if (!gap) {
      out += "..";
      gap = true;
    }
    at += cw;
    s.remove_prefix(n);
  }
  return out;
}

size_t complete_utf8(std::string_view s) {
  // Only the last three bytes can begin a sequence that is not whole yet.
  for (size_t back = 1; back <= 3 && back <= s.size(); ++back) {
    const unsigned char c = static_cast<unsigned char>(s[s.size() - back]);
    if ((c & 0xc0) == 0x80) continue;
    const size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    return need > back ? s.size() - back : s.size();
  }
  return s.size();
}

std::string printable(std::string_view s, bool keep_newlines) {
  std::string out;
  while (!s.empty()) {
    uint32_t cp = 0;
    const size_t n = decode(s, &cp);
    const bool newline = cp == '\n' || cp == '\t';
    if (n == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(s[0]));
    } else if (newline && !keep_newlines) {
      out += cp == '\n' ? "\\n" : "\\t";
    } else if ((cp < 0x20 && !newline) || (cp >= 0x7f && cp < 0xa0)) {
      out += cp == '\r' ? "\\r" : fmt::format("\\x{:02x}", cp);
    } else if (turns_text(cp)) {
      out += fmt::format("\\u{:04x}", cp);
    } else {
      out.append(s.substr(0, n));
    }
    s.remove_prefix(n ? n : 1);
  }
  return out;
}

std::string shown(std::string_view s, int width) {
  const size_t most = 4 * static_cast<size_t>(width);
  if (s.size() <= 2 * most) return shorten_middle(printable(s), width);
  std::string_view tail = s.substr(s.size() - most);
  while (!tail.empty() && (static_cast<unsigned char>(tail[0]) & 0xc0) == 0x80) tail.remove_prefix(1);
  return shorten_middle(printable(s.substr(0, complete_utf8(s.substr(0, most)))) + printable(tail), width);
}

std::string shell_word(std::string_view s) {
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_-./:@%+=,").find(c) != std::string_view::npos; };
  if (!s.empty() && std::all_of(s.begin(), s.end(), plain)) return std::string(s);
  const bool control = printable(s) != s;
  std::string out = control ? "$'" : "'";
  for (const char c : s) {
    if (!control) out += c == '\'' ? "'\\''" : std::string(1, c);
    else if (c == '\'' || c == '\\') out += {'\\', c};
    else if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else out += c;
  }
  return out + "'";
}

std::string wrap(std::string_view text, int width, int indent) {
  std::string out;
  int column = 0;
  bool first = true;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\n') {
      out += '\n';
      if (indent > 0) out.append(static_cast<size_t>(indent), ' ');
      column = indent;
      first = true;
      ++i;
      continue;
    }
    const size_t begin = i;
    while (i < text.size() && text[i] == ' ') ++i;
    const size_t spaces = i - begin;
    const size_t word = i;
    bool quoted = false;
    while (i < text.size() && text[i] != '\n' && (quoted || text[i] != ' ')) {
      // A quote opens at the start of a word only: "isn't" opens none.
      if (text[i] == '\'') quoted = quoted ? false : i == word || text[i - 1] == '(';
      ++i;
    }
    const int w = display_width(text.substr(word, i - word));
    if (!first && column + static_cast<int>(spaces) + w > width) {
      out += '\n';
      out.append(static_cast<size_t>(indent), ' ');
      column = indent;
    } else {
      out.append(spaces, ' ');
      column += static_cast<int>(spaces);
    }
    out.append(text.substr(word, i - word));
    column += w;
    first = false;
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || text[i] == separator) {
      out.emplace_back(text.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  return out;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i) out += separator;
    out += parts[i];
  }
  return out;
}

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string upper(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {
  for (std::string& h : header_) {
    const size_t n = std::min(h.find_first_not_of(">?~="), h.size());
    marks_.push_back(h.substr(0, n));
    h.erase(0, n);
  }
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(header_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::str(int indent, int most) const {
  constexpr int kGap = 2, kLeast = 12;
  const auto marked = [&](size_t i, char mark) { return marks_[i].find(mark) != std::string::npos; };
  std::vector<int> width(header_.size(), 0);
  const auto measure = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) width[i] = std::max(width[i], display_width(cells[i]));
  };
  measure(header_);
  for (const auto& r : rows_) measure(r);
  int over = indent - kGap - most;
  for (const int w : width) over += w + kGap;
  std::vector<bool> left_out(width.size(), false);
  for (size_t i = 0; most && over > 0 && i < width.size(); ++i)
    if (marked(i, '?')) left_out[i] = true, over -= width[i] + kGap;
  for (size_t i = 0; most && over > 0 && i < width.size(); ++i) {
    const int less = marked(i, '~') || marked(i, '=') ? std::clamp(width[i] - kLeast, 0, over) : 0;
    width[i] -= less, over -= less;
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string s(static_cast<size_t>(indent), ' ');
    int column = indent;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (left_out[i]) continue;
      if (i) s += std::string(kGap, ' '), column += kGap;
      std::string cell = display_width(cells[i]) <= width[i] ? cells[i] : marked(i, '=') ? wrap(cells[i], width[i], 0) : shorten_middle(cells[i], width[i]);
      const std::string pad(static_cast<size_t>(std::max(0, width[i] - display_width(cell))), ' ');
      for (size_t at = 0; (at = cell.find('\n', at)) != std::string::npos; at += static_cast<size_t>(column) + 1) cell.insert(at + 1, static_cast<size_t>(column), ' ');
      s += marked(i, '>') ? pad + cell : cell + pad;
      column += width[i];
    }
    s.erase(s.find_last_not_of(' ') + 1);
    out += s + "\n";
  };
  bool titled = false;
  for (const std::string& h : header_) titled = titled || !h.empty();
  if (titled) line(header_);
  for (const auto& r : rows_) line(r);
  return out;
}

}  // namespace ingot::cli
