// The executor: writes any number of artifacts to their sinks in one pass over their sources, within a memory budget,
// resumable, verified, cancellable, split over ranks. docs/design/executor.md tells how it works.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "exec/layout.h"
#include "kernels/hash.h"
#include "storage/store.h"
#include "tensor/artifact.h"

namespace ingot {

// One thing to be written: a file, or a directory of files.
struct Output {
  Artifact artifact;
  LayoutFn layout;
  Store* store = nullptr;  // null only within load(): the caller's memory
  std::string path;        // final name; nothing is there until it is whole and verified
  bool directory = false;
  // Names within the directory that an older output of this kind may have ("model-00001-of-00007.safetensors", "sub/"): what --force may
  // remove beside the files of the layout.
  std::function<bool(const std::string& name)> older_name = nullptr;
};

// How the outputs are read back and compared with what was computed.
enum class Verify {
  kMedium,  // around the cache in memory, where the file system allows that
  kCache,   // from wherever the system has the bytes
  kNone,
};
const char* verify_name(Verify v);

enum class Phase { kPlan, kLoad, kWrite, kVerify, kCommit, kDone };
const char* phase_name(Phase p);

// A snapshot for a bar or an event stream. Bytes are bytes of output (or re-read, when verifying) of this phase.
struct Progress {
  Phase phase = Phase::kPlan;
  uint64_t done = 0, total = 0;
  uint64_t resumed = 0;  // of `done`, taken over from an earlier run
  std::string tensor;    // being worked on
};

struct ExecOptions {
  int threads = 0;        // compute threads; 0 = the machine's
  uint64_t memory = 0;    // bytes for buffers; 0 = a quarter of what is free
  bool resume = true;     // false: an unfinished run of the same job is discarded
  bool force = false;     // replace existing outputs
  Verify verify = Verify::kMedium;
  int rank = 0, world = 1;
  double rank_timeout = 600;  // seconds without progress after which a rank no longer waits for another
  uint64_t seed = 0;
  std::string key;        // of write() and publish() by ranks with different artifacts: what they call this set of contents; else empty
  // For tests: elements of a tile at most (0 = chosen from the budget), and bytes of a leaf of the hash tree.
  int64_t tile_elements = 0;
  uint64_t leaf_bytes = 1 << 20;
  CancelToken* cancel = nullptr;
  // Called now and then from worker threads, never concurrently.
  std::function<void(const Progress&)> on_progress;
  // Notices for the user ("starting over: ...").
  std::function<void(const std::string&)> on_notice;
  // Where the journal lives; null: beside the first output, in its store.
  Store* journal_store = nullptr;
  std::string journal_path;  // empty: derived from the first output
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

// What one rank has written: durable, read back and invisible. Passed to whoever publishes, as text if need be.
struct Written {
  struct File {
    int output = 0;
    std::string name;  // within the directory; empty for an output that is one file
    uint64_t size = 0;
    std::map<uint64_t, Hash128> leaves;  // by number, of those that this rank wrote
  };
  std::string key;
  uint64_t leaf_bytes = 0;
  std::vector<File> files;  // each output has one at least, of no bytes if need be
  bool published = false;  // found finished already; nothing was written
  std::string serialize() const;
  // kBadInput where it is not whole.
  static Result<Written> parse(std::string_view bytes);
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
