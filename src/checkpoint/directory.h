// What lies in a directory of checkpoints, newest first; the hints, notes and metrics beside them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "storage/store.h"

namespace ingot::checkpoint {

enum class State {
  kWhole,        // its manifest is, and all objects are there with their sizes; hashes are a resume's matter, and verify()'s
  kTorn,         // a save that did not end, or files that went away
  kQuarantined,  // a resume found it damaged and passed it over
  kNewer,        // of a version that this ingot does not know
  kUnverified,   // made by others, without a manifest: what it should be nobody knows
};
const char* state_name(State s);

struct Found {
  int64_t step = 0;
  std::string path;
  State state = State::kTorn;
  std::string reason;  // why it is not whole
  Manifest manifest;   // of one with a manifest that could be read
  Metrics metrics;     // late ones before those of the manifest
  bool pinned = false;
  uint64_t bytes = 0;  // of its files
  uint64_t unique = 0;  // of those that no other name leads to
  std::vector<std::pair<std::string, uint64_t>> shared;  // the others, by Stat::identity, with their bytes
  std::string manifest_identity, late_identity;  // of the files that were read, as Stat has it
  Metrics late;
  int64_t writer = 0;  // of a torn one that was written under its own name (on a mount): its save's epoch
  std::optional<bool> uploaded;  // of a mount with a cache, where somebody looked: whether all of it is in the bucket
  std::string late_reason;  // why those that came late do not count
};

// Newest first: by epoch and step; those without a manifest by their step, after those with one. Names are checkpoint-N (also step-N, global_stepN). kBadInput
// where the directory cannot be read; none there is an empty list.
// `before`: an earlier answer; what has not changed since is not read again (rclone puts off the upload of a file each time that it is read).
Result<std::vector<Found>> scan(Store& store, const std::string& directory, const std::vector<Found>& before = {});
// One of them, by its own path.
Result<Found> look_at(Store& store, const std::string& path, const Found* before = nullptr);

// What those of them that `counts` takes on the disk: a file that several share is there once.
uint64_t disk_bytes(const std::vector<Found>& all, const std::function<bool(size_t)>& counts = nullptr);
// The others that share files with all[i], as positions.
std::vector<size_t> sharing(const std::vector<Found>& all, size_t i);

// Says whose save begins in that directory, where it is written under its own name: a later process can tell what is left of it from what is somebody else's.
Status put_writer(Store& store, const std::string& path, int64_t epoch, double time);
// Its epoch; 0 where none can be read.
int64_t writer_of(Store& store, const std::string& path);

// A small object's text, compared with what the manifest says of it: kBadInput where it has changed.
Result<std::string> read_object(Store& store, const Found& checkpoint, const std::string& name);
// Every object read and compared. kBadInput names the first that differs.
Status verify(Store& store, const Found& checkpoint, int threads);

Status put_latest(Store& store, const std::string& directory, int64_t step);
// Adds to, or changes, what came after the commit.
Status put_metrics(Store& store, const Found& checkpoint, const Metrics& metrics);
// Retention leaves a pinned one alone.
Status put_pinned(Store& store, const Found& checkpoint, bool pinned);
Status put_quarantine(Store& store, const Found& checkpoint, const std::string& reason, double time);

}  // namespace ingot::checkpoint
