// What a directory's file system really does, found out by doing it in a scratch name: mounts of buckets and of the network promise less than a disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace ingot {

struct MountProbe {
  std::string type, source;  // as the system's table of mounts has them: "ext4", "fuse.rclone", "nfs4"; "/dev/vda", "bucket:"
  bool append = false, random_write = false, rename_file = false, rename_directory = false, link = false, exclusive = false, lock = false, sync = false, read_after_write = false;
  bool direct = false;  // writes past the page cache
  std::optional<uint64_t> free;  // of a bucket nobody knows
  // What is closed is uploaded later (rclone's cache; SkyPilot's MOUNT_CACHED).
  bool caches() const { return type == "fuse.rclone"; }
  bool bucket() const { return type.starts_with("fuse"); }  // what lies behind is no file system, whatever it answers
  // Whether writes past the cache spare the processor and cost nothing else: of a file system on a disk of this machine. Over a network each would be waited for.
  bool writes_directly() const;
  // Directories that are renamed appear as a whole: else what is written goes under its own name, and a manifest comes last.
  bool renames() const { return rename_directory && rename_file && !bucket(); }
};

// Leaves nothing behind. kFailed where nothing can be written there.
Result<MountProbe> probe_directory(const std::string& directory);

}  // namespace ingot
