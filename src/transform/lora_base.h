// Where the base of an adapter lies, by what the adapter says of it.
#pragma once

#include "storage/store.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// Follows base_model_name_or_path of adapter_config.json: a path as it stands, from the adapter's own directory or the one above, else a name in the Hub's
// local cache (with the adapter's revision, where it has one). kBadInput where it names none, or none that is here.
Result<Located> find_base(const Artifact& adapter);

// What it was made from, where its name is one of a quantized copy (hub_original).
std::string original_of_base(const Artifact& adapter);
// "hf download org/model" for one that is not here, or for the original of a quantized copy; empty where its name is none of the Hub's.
std::string base_download(const Artifact& adapter);

}  // namespace ingot::transform
