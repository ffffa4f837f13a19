// One checkpoint, from a snapshot to its name in the directory: an ordinary job of the executor, with its journal in memory.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "checkpoint/manifest.h"
#include "checkpoint/snapshot.h"
#include "exec/executor.h"

namespace ingot::checkpoint {

struct SaveOptions {
  int threads = 0;                // 0: writing_threads()
  int neighbours = 1;             // processes of this machine that save at the same time, this one among them
  uint64_t memory = 64u << 20;    // beside the snapshot
  uint64_t max_shard = 5'000'000'000;
  std::function<bool(const std::string& group)> compress = nullptr;  // groups whose files are compressed
  int64_t epoch = 1;
  std::string attempt;  // no other save has it: what is unfinished carries a name made of it
  double time = 0;
  std::string run;
  std::optional<int64_t> parent;
  // A checkpoint in the directory: what is the same there is linked, not written. None: a full copy.
  const Manifest* previous = nullptr;
  // Asked when everything but the commit record is durable, and again before the name is given.
  std::function<Status()> may_commit = nullptr;
  CancelToken* cancel = nullptr;
};

// Threads that hash and write. A thread hashes faster than a disk writes, and many writers at once slow a disk down (one of 2.2 GB/s: 3.2 GB in 1.9 s by two or four of them,
// in 3.1 s by sixteen): where none are asked for, four of a machine, at least one of each process; to compress, all.
int writing_threads(const SaveOptions& options, bool compresses);

// A save by several ranks in two halves. The first: the files of one rank, durable under the hidden name that all have from options.attempt (on a mount: under their own). Its text goes to whoever publishes.
struct Part {
  Manifest objects;  // of this rank
  std::string text;
};
Result<Part> save_part(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, int rank, int world);
std::string part_text(const Manifest& objects, const std::string& key);  // that text, of what was written under a hidden name of that key; empty: nothing was to be written
// The second, by one process when all ranks have written: the manifest, and the name. `parts` by rank. kUsage where two of them have made a file of one name, or they are of different saves.
struct Saved;
// `world`: of how many ranks the manifest tells; as many as there are parts, if nothing is said.
Result<Saved> publish_parts(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, const std::vector<std::string>& parts, std::optional<int> world = std::nullopt);
// Before the first half, by one process: on a mount what is there of that step goes. And after one that did not end: what it has begun goes.
Status clear_before_parts(Store& store, const std::string& directory, int64_t step, const SaveOptions& options);
void remove_parts_of(Store& store, const std::string& directory, int64_t step, const SaveOptions& options);

// Files that one link after another leads to are one on the medium: a bit that flips there damages all of them, and all that follow, until the bytes are written again.
inline constexpr int64_t kMostLinks = 10;

struct Saved {
  Manifest manifest;
  uint64_t written = 0;  // bytes; without what was linked
};

// Whether a group is a PEFT adapter's: PEFT reads it from one file of its name, never from shards.
bool is_adapter(const std::string& group);

// "checkpoint-1200".
std::string directory_name(int64_t step);

// Durable and verified by its manifest on return. A checkpoint of that step that is there is replaced. Errors: kUsage for a snapshot that cannot be laid out
// (a name twice, a type that safetensors has not), kFailed, kInterrupted.
Result<Saved> save(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options);

}  // namespace ingot::checkpoint
