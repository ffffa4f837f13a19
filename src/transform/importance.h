// What an importance matrix says of a model's weights, from the files of llama-imatrix of both kinds (formats/imatrix.cc; GGUF of general.type imatrix), several merged.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

struct Importance {
  // Of a tensor by its name: the mean of the squares of each input column, one after another for the matrices of a 3-D tensor.
  std::map<std::string, std::shared_ptr<const std::vector<float>>> weights;
  std::vector<std::string> files;  // their paths
  std::string dataset;             // of the first that names one
  uint32_t chunks = 0;             // of all files together
  std::vector<std::string> notices;
};

// Several files are merged as if their texts had been read in one run: sums are added, and counts. kBadInput names the file, the entry and what is wrong with it: NaN, an
// infinite or a negative value, another number of values than the same entry of another file, no importance matrix at all.
Result<Importance> read_importance(const std::vector<Artifact>& files);

}  // namespace ingot::transform
