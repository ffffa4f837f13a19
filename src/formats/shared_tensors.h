// Tensors that the ranks of a training share, in safetensors: each rank's file has parts of them, and its __metadata__ tells of which tensor each is a part, and where it begins
// (docs/formats/checkpoint.md).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "formats/formats.h"
#include "formats/safetensors.h"

namespace ingot {

// The key of the metadata.
inline constexpr char kPartsKey[] = "ingot.parts";

struct PartOf {
  std::string name;             // of the whole
  std::vector<int64_t> shape;   // of the whole
  std::vector<int64_t> offset;  // the part's first index in each dimension
};
// Of each tensor of the file that is one. kBadInput: the text is no such thing, or a part reaches beyond the whole.
Result<std::map<std::string, PartOf>> parts_of(const SafetensorsFile& file, const std::string& path);

// "model-rank-00003" begins the name of a rank's files; the stem's end.
inline constexpr std::string_view kRankMark = "-rank-";
std::string rank_stem(std::string_view group, int rank);
// "model" of "model-rank-00003"; as it is where it ends otherwise.
std::string_view without_rank(std::string_view stem);

// Whether a directory holds a model so.
bool is_rank_files(const Probe& directory);
// The model's tensors, those that are shared put together of their parts, whatever file these lie in. kBadInput where parts are missing.
Status read_rank_files(Store& store, const Probe& directory, Artifact* a);

}  // namespace ingot
