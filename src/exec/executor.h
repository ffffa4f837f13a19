// The executor: writes any number of artifacts to their sinks in one pass over their sources, within a memory budget,
// resumable, verified, cancellable, split over ranks. docs/design/executor.md tells how it works.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "commit/destination.h"
#include "commit/written.h"
#include "exec/layout.h"
#include "tensor/artifact.h"

namespace ingot {

// One thing to be written, and where.
struct Output : Destination {
  Artifact artifact = {};
  LayoutFn layout = nullptr;
};

enum class Phase { kPlan, kLoad, kWrite, kVerify, kCommit, kDone };
const char* phase_name(Phase p);

// A snapshot for a bar or an event stream. Bytes are bytes of output (or re-read, when verifying) of this phase.
struct Progress {
  Phase phase = Phase::kPlan;
  uint64_t done = 0, total = 0;
  uint64_t resumed = 0;  // of `done`, taken over from an earlier run
  std::string tensor;    // being worked on
};

struct ExecOptions : CommitOptions {
  uint64_t memory = 0;  // bytes for buffers; 0 = a quarter of what is free
  bool resume = true;   // false: an unfinished run of the same job is discarded
  uint64_t seed = 0;
  std::string key;      // of write() and publish() by ranks with different artifacts: what they call this set of contents; else empty
  int64_t tile_elements = 0;  // for tests: elements of a tile at most; 0 = chosen from the budget
  // Called now and then from worker threads, never concurrently.
  std::function<void(const Progress&)> on_progress;
};

struct OutputReport {
  std::string path;
  uint64_t bytes = 0;
  std::string hash;  // root of the tree of 1 MiB leaf hashes (XXH3-128) over its files
  bool up_to_date = false;  // the same job had made it before, and nobody touched it since
};

struct ExecReport {
  std::vector<OutputReport> outputs;
  // Of outputs to a store that keeps nothing: the hash of each file, "" for any other output. Not of a run that found the job done.
  std::vector<std::vector<std::string>> digests;
  uint64_t source_bytes = 0;   // read from sources in this run
  uint64_t written_bytes = 0;  // written in this run
  uint64_t resumed_bytes = 0;  // taken over from an earlier run
  uint64_t tasks = 0;
  double seconds_write = 0, seconds_verify = 0;
  Verify verified = Verify::kNone;  // what the reading back was; kCache where the medium was asked for and could not be had
  std::string key;                  // of the job
};

// What a run will do, before it does it (--dry-run, and the checks before the first byte).
struct PlanReport {
  struct File {
    std::string path;
    uint64_t bytes = 0;
  };
  std::vector<File> files;
  uint64_t source_bytes = 0;   // to be read
  uint64_t memory_floor = 0;   // the least --memory that works
  uint64_t memory = 0;         // what the run will reserve at most
  uint64_t tasks = 0;          // after splitting
  int spilled = 0;             // outputs of folds that go to disk in between
  bool up_to_date = false;     // all outputs are there already: nothing will be done
};

// Makes every check that run_job makes before its first byte, and writes nothing.
Result<PlanReport> plan_job(const std::vector<Output>& outputs, const ExecOptions& options);
// write() and publish() in one; several ranks of one job tell each other by their journals.
Result<ExecReport> run_job(const std::vector<Output>& outputs, const ExecOptions& options);

// The first half: all that this rank owns is written, durable and read back, under hidden names. A rerun goes on where it stopped. Ranks may have different
// artifacts (stages of a pipeline, shards) for outputs of the same names, with files of their own: then they agree on options.key, one for each set of contents.
Result<Written> write(const std::vector<Output>& outputs, const ExecOptions& options);
// The second, by one process when all ranks have written: checks that everything is there and, as options.verify says, that it is what was written, and gives the
// outputs their names. May be repeated after any kill, with the same `of_all_ranks`. Of `outputs` only the names, the stores and what --force may remove count.
Status publish(const std::vector<Output>& outputs, const std::vector<Written>& of_all_ranks, const ExecOptions& options);

}  // namespace ingot
