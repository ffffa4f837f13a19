#include "quant/near_words.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "quant/grids.h"

namespace ingot {
namespace {

template <size_t kWords, size_t kLevels>
std::vector<uint32_t> make(const uint16_t (&words)[kWords], int values, int bits, const int (&levels)[kLevels]) {
  int points = 1;
  for (int k = 0; k < values; ++k) points *= static_cast<int>(kLevels);
  std::vector<uint32_t> out(static_cast<size_t>(points) * kNearWords);
  // square[k][digit][w]: what a word's k-th value is from that level.
  std::vector<std::vector<int>> square(static_cast<size_t>(values) * kLevels, std::vector<int>(kWords));
  for (int k = 0; k < values; ++k)
    for (size_t level = 0; level < kLevels; ++level)
      for (size_t w = 0; w < kWords; ++w) {
        const int from = levels[level] - levels[static_cast<size_t>(words[w] >> bits * k & ((1 << bits) - 1))];
        square[static_cast<size_t>(k) * kLevels + level][w] = from * from;
      }
  std::vector<int> distance(kWords);
  std::vector<uint32_t> order(kWords);
  for (int point = 0; point < points; ++point) {
    std::fill(distance.begin(), distance.end(), 0);
    for (int k = 0, rest = point; k < values; ++k, rest /= static_cast<int>(kLevels)) {
      const auto& of = square[static_cast<size_t>(k) * kLevels + static_cast<size_t>(rest % static_cast<int>(kLevels))];
      for (size_t w = 0; w < kWords; ++w) distance[w] += of[w];
    }
    for (size_t w = 0; w < kWords; ++w) order[w] = static_cast<uint32_t>(distance[w]) << 12 | static_cast<uint32_t>(w);
    std::partial_sort(order.begin(), order.begin() + kNearWords, order.end());
    for (int n = 0; n < kNearWords; ++n) {
      const uint32_t w = order[static_cast<size_t>(n)] & 4095;
      out[static_cast<size_t>(point) * kNearWords + static_cast<size_t>(n)] = w << 16 | words[w];
    }
  }
  return out;
}

constexpr int kMagnitudes2[] = {8, 25, 43}, kMagnitudes3Xxs[] = {4, 12, 20, 28, 36, 44, 52, 62}, kMagnitudes3S[] = {1, 3, 5, 7, 9, 11, 13, 15}, kValues1[] = {-1, 0, 1};

}  // namespace

const uint32_t* near_iq2_xxs() {
  static const auto table = make(kIq2Xxs, 8, 2, kMagnitudes2);
  return table.data();
}
const uint32_t* near_iq2_xs() {
  static const auto table = make(kIq2Xs, 8, 2, kMagnitudes2);
  return table.data();
}
const uint32_t* near_iq2_s() {
  static const auto table = make(kIq2S, 8, 2, kMagnitudes2);
  return table.data();
}
const uint32_t* near_iq3_xxs() {
  static const auto table = make(kIq3Xxs, 4, 3, kMagnitudes3Xxs);
  return table.data();
}
const uint32_t* near_iq3_s() {
  static const auto table = make(kIq3S, 4, 3, kMagnitudes3S);
  return table.data();
}
const uint32_t* near_iq1() {
  static const auto table = make(kIq1, 8, 2, kValues1);
  return table.data();
}

}  // namespace ingot
