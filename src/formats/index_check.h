// What the index of a sharded model (*.index.json) says beside where its tensors lie, held against the shards: openers need none of it.
#pragma once

#include <string>
#include <vector>

#include "storage/store.h"

namespace ingot {

struct IndexCheck {
  size_t indexes = 0;
  std::vector<std::string> errors;    // tensors or shards that are named and not there
  std::vector<std::string> warnings;  // another total_size, tensors that it does not name
};
// Of all indexes in a directory. Reads headers only.
Result<IndexCheck> check_indexes(Store& store, const std::string& directory);

}  // namespace ingot
