// The weights of a Hugging Face directory, spread over files of a size with an index, and the small files beside them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "exec/layout.h"

namespace ingot {

// Lays out the tensors `which` as file number `file`, and says where they lie.
using PlaceShard = std::function<Result<FileLayout>(const std::vector<int>& which, int file, std::vector<Placement>* placements)>;

// STEM + EXTENSION, or STEM-00001-of-0000N + EXTENSION with STEM + EXTENSION + .index.json when the tensors take more than max_shard bytes: they fill the files
// in their order, as huggingface_hub has it; one that is larger by itself is a file at once, beside that which is being filled. The index has `names`, each with the number of its tensor. `files` are written as they are.
using TensorNames = std::vector<std::pair<std::string, size_t>>;
Result<Layout> layout_shards(const std::vector<NamedSpec>& specs, const std::map<std::string, std::string>& files, uint64_t max_shard, const std::string& stem,
                             const std::string& extension, const TensorNames& names, const PlaceShard& place);

}  // namespace ingot
