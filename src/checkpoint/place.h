// Where checkpoints are written to, and by which protocol: a rename where the file system renames directories as a whole, else a manifest that comes last.
#pragma once

#include <string>

#include "storage/probe.h"
#include "storage/store.h"

namespace ingot::checkpoint {

struct Place {
  Located at;
  MountProbe probe;
};

// The directory is made. kFailed where nothing can be written there.
Result<Place> place_for_checkpoints(const std::string& directory);

}  // namespace ingot::checkpoint
