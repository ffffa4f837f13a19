// Text for people: sizes, times, columns. No I/O here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/nearest.h"
#include "base/status.h"

namespace ingot::cli {

// "4.2 MB"; units of 1000, as disks and file managers have them.
std::string format_bytes(uint64_t bytes);
// "0.8 s", "42 s", "3:05", "1:02:10".
std::string format_duration(double seconds);
std::string format_rate(double bytes_per_second);
std::string format_count(uint64_t n);  // "4,096"
std::string nonfinite_text(uint64_t nan, uint64_t infinite);  // "12 NaN, 3 infinite"
std::string count_of(uint64_t n, std::string_view what);  // "1 tensor", "4,096 tensors"

// 512M, 5GB, 4.5GiB, 1000. KB MB GB TB are powers of 1000, KiB ... of 1024, and K M G T of `letter`: memory is counted by 1024; of the size of a file, which is
// limited elsewhere (llama-gguf-split, the Hub's 50 GB), they mean 1000.
Result<uint64_t> parse_size(std::string_view text, double letter = 1024);
// Seconds: 30, 30s, 10m, 1h, 1.5h.
Result<double> parse_duration(std::string_view text);

// Columns that UTF-8 text takes on a terminal, counting code points (wide ones count two).
int display_width(std::string_view utf8);
// At most `width` columns; what is too long loses its middle: "blk.12…weight".
std::string shorten_middle(std::string_view utf8, int width);
// The longest prefix of `text` that ends on a complete UTF-8 sequence.
size_t complete_utf8(std::string_view text);
// Text safe to show on a terminal: control characters, those that turn the direction of text, and broken UTF-8 are written as \x1b and the like.
std::string printable(std::string_view text, bool keep_newlines = false);
// Both, in the time that a short text takes.
std::string shown(std::string_view text, int width);
// A word as a shell reads it: as it is where it may be, else in quotes.
std::string shell_word(std::string_view text);

// Broken at spaces to lines of at most `width` columns, never inside a word or inside '...'.
std::string wrap(std::string_view text, int width, int indent);

std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::string lower(std::string_view s);
std::string upper(std::string_view s);

// Aligned columns. What a header starts with says of its column: '>' it is right-aligned, and where the table is wider than it may be: '?' it is left out, '~' its
// cells lose their middles, '=' they are wrapped (of the last).
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void row(std::vector<std::string> cells);
  std::string str(int indent = 0, int most = 0) const;  // columns; 0: as many as it takes

 private:
  std::vector<std::string> header_;
  std::vector<std::string> marks_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace ingot::cli
