#include "checkpoint/place.h"

#include "storage/mount.h"

namespace ingot::checkpoint {

Result<Place> place_for_checkpoints(const std::string& directory) {
  Place p;
  INGOT_ASSIGN(p.at, locate(directory));
  INGOT_ASSIGN(p.probe, probe_directory(p.at.path));
  if (!p.probe.renames()) {
    static const std::unique_ptr<Store> mount = make_mount_store(*p.at.store);
    p.at.store = mount.get();
  }
  return p;
}

}  // namespace ingot::checkpoint
