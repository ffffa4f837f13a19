// Tensors that the ranks of a training share, in safetensors: each rank's file has parts of them, and its __metadata__ tells of which tensor each is a part, and where it begins
// (docs/formats/checkpoint.md).
#pragma once

#include <map>
#include <string>

#include "formats/formats.h"
#include "formats/parts.h"
#include "formats/safetensors.h"

namespace ingot {

// Of each tensor of the file that is one. kBadInput: the text is no such thing, or a part reaches beyond the whole.
Result<std::map<std::string, PartOf>> parts_of(const SafetensorsFile& file, const std::string& path);

// Whether a directory holds a model so.
bool is_rank_files(const Probe& directory);
// The model's tensors, those that are shared put together of their parts, whatever file these lie in. kBadInput where parts are missing.
Status read_rank_files(Store& store, const Probe& directory, Artifact* a);

}  // namespace ingot
