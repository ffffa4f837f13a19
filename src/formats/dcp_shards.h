// What torch's HuggingFaceStorageWriter leaves of each rank: safetensors files whose metadata say where in the whole tensors theirs begin.
#pragma once

#include "formats/safetensors.h"

namespace ingot {

// Of each tensor of the file its offsets in the whole.
Result<std::vector<Shape>> dcp_saved_offsets(const SafetensorsFile& file, const std::string& path);
// A directory of such files, without `.metadata`.
bool is_dcp_shards(const Probe& directory);
Result<Artifact> read_dcp_shards(Store& store, const Probe& directory);

}  // namespace ingot
