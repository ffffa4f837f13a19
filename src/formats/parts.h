// What a file of a rank says of a tensor that is a part of one that ranks share, and the names of such files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ingot {

// The key of the metadata.
inline constexpr char kPartsKey[] = "ingot.parts";

struct PartOf {
  std::string name;             // of the whole
  std::vector<int64_t> shape;   // of the whole
  std::vector<int64_t> offset;  // the part's first index in each dimension
};
// "model-rank-00003" begins the name of a rank's files; the stem's end.
inline constexpr std::string_view kRankMark = "-rank-";
std::string rank_stem(std::string_view group, int rank);
// "model" of "model-rank-00003"; as it is where it ends otherwise.
std::string_view without_rank(std::string_view stem);

}  // namespace ingot
