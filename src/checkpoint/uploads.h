// From written to uploaded: on a mount with a cache (rclone; SkyPilot's MOUNT_CACHED) what is closed reaches the bucket later.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/probe.h"

namespace ingot::checkpoint {

struct Upload {
  enum class State { kDone, kPending, kUnknown } state = State::kUnknown;
  size_t pending = 0;  // files that are not in the bucket yet, at least
  std::string how;     // where this was read; of kUnknown why it could not be, and what to do
};

// Of the mount that one directory lies in. Thread-safe.
class Uploads {
 public:
  virtual ~Uploads() = default;
  // Of the files of a checkpoint, closed at `closed` (seconds since 1970).
  virtual Upload look(const std::string& checkpoint, const std::vector<std::string>& files, double closed) = 0;
  // What the cache cannot hold of `bytes` to come beside `pending` ones that are not uploaded yet, in words; empty: it can.
  virtual std::string too_much(uint64_t bytes, uint64_t pending) = 0;
  // The mount's cache in words, and whether its uploads can be seen from here.
  virtual std::string described() = 0;
};

// Null where what is closed (a bucket without a cache) or synced (a disk, NFS) is durable.
std::shared_ptr<Uploads> uploads_of(const std::string& directory, const MountProbe& probe);
// The same of a directory that nothing is to be tried in.
std::shared_ptr<Uploads> uploads_of(const std::string& directory);

// Of rclone's log: whether after that time its cache said that nothing is left ("in use 0, to upload 0, uploading 0"). kUnknown where it says nothing since.
Upload upload_by_log(const std::string& log, double closed);
// Of a file of vfsMeta: whether its bytes are in the bucket. Nothing: it is being written, over itself.
std::optional<bool> clean_by_meta(const std::string& text);

}  // namespace ingot::checkpoint
