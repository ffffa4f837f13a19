#include "base/nearest.h"

#include <algorithm>
#include <cctype>
#include <cstdint>

namespace ingot {

std::string nearest(std::string_view word, const std::vector<std::string>& words) {
  // Optimal string alignment distance.
  std::string best;
  size_t least = SIZE_MAX;
  const size_t dashes = std::min(word.size(), word.find_first_not_of('-'));
  for (const std::string& other : words) {
    const size_t n = word.size(), m = other.size();
    std::vector<std::vector<size_t>> d(n + 1, std::vector<size_t>(m + 1));
    for (size_t i = 0; i <= n; ++i) d[i][0] = i;
    for (size_t j = 0; j <= m; ++j) d[0][j] = j;
    for (size_t i = 1; i <= n; ++i) {
      for (size_t j = 1; j <= m; ++j) {
        const char a = static_cast<char>(std::tolower(static_cast<unsigned char>(word[i - 1])));
        const char b = static_cast<char>(std::tolower(static_cast<unsigned char>(other[j - 1])));
        d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a != b)});
        if (i > 1 && j > 1 && word[i - 1] == other[j - 2] && word[i - 2] == other[j - 1])
          d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
    size_t distance = d[n][m];
    // An abbreviation is meant too, --temp for --temperature, and --output for --out.
    if (n >= 3 && m > n && other.compare(0, n, word) == 0) distance = 1;
    if (m >= dashes + 3 && n > m && n - m <= 3 && word.compare(0, m, other) == 0) distance = 1;
    if (distance < least) least = distance, best = other;
  }
  return least <= std::clamp<size_t>((word.size() - dashes) / 3, 1, 3) ? best : "";
}

}  // namespace ingot
