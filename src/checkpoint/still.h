// Which tensors do not change from save to save: found out from what was saved, so that a frozen base is written once.
#pragma once

#include <map>
#include <string>

#include "checkpoint/snapshot.h"
#include "kernels/hash.h"

namespace ingot::checkpoint {

// A few bytes of a tensor are compared each time; only of one whose few have stayed the same all are hashed. So what moves costs nothing, and what stays is known
// after three saves.
class StillTensors {
 public:
  // Marks those of a snapshot that have not changed in what was noted.
  void mark(Snapshot* s) const;
  // Takes note of what has been saved.
  void note(const Snapshot& saved);

 private:
  struct Known {
    Hash128 few, all;
    bool hashed = false, still = false;
  };
  std::map<std::pair<std::string, std::string>, Known> known_;  // by group and name
};

}  // namespace ingot::checkpoint
