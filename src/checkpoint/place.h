// Where checkpoints are written to, and by which protocol: a rename where the file system renames directories as a whole, else a manifest that comes last.
#pragma once

#include <string>

#include "checkpoint/saver.h"
#include "storage/probe.h"
#include "storage/store.h"

namespace ingot::checkpoint {

struct Place {
  Located at;
  MountProbe probe;
};

// Where they lie, for whoever reads, removes or annotates them: on a mounted bucket nothing is renamed. Nothing is made or tried.
Result<Located> locate_checkpoints(const std::string& directory);
// The directory is made. kFailed where nothing can be written there.
Result<Place> place_for_checkpoints(const std::string& directory);
// What its mount asks of a saver: whom to ask of uploads, how long to wait where nobody tells (unless `settle` does), when it is gone.
void suit(const Place& place, std::optional<double> settle, SaverOptions* options);

}  // namespace ingot::checkpoint
