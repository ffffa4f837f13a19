// Saves of a training run, one after another, each behind the back of the training: save() copies the state and returns; a thread hashes, writes, commits and
// prunes. docs/design/checkpoints.md.
#pragma once

#include <fmt/format.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/cancel.h"
#include "base/clock.h"
#include "checkpoint/keep.h"
#include "checkpoint/lease.h"
#include "checkpoint/meeting.h"
#include "checkpoint/save.h"
#include "checkpoint/staging.h"
#include "checkpoint/still.h"
#include "checkpoint/together.h"
#include "checkpoint/uploads.h"

namespace ingot::checkpoint {

enum class Overlap { kWait, kSkip };  // what a save does while another is under way

struct SaverOptions {
  Keep keep;
  Overlap overlap = Overlap::kWait;
  int threads = 0;                     // of the copy, and of the writing; 0: all for the copy, to write SaveOptions::threads
  int neighbours = 1;                  // SaveOptions::neighbours
  uint64_t max_shard = 5'000'000'000;
  std::function<bool(const std::string& group)> compress = nullptr;  // SaveOptions::compress
  std::string run;
  std::optional<int64_t> parent;       // the step that the run resumed from
  std::optional<int64_t> lease_seen;   // of read_lease(), before the run looked for what to resume from: whoever has taken the directory since goes on, and not this one
  // Savers of one family, in several processes (of begin_parts() alone), are under one lease: the first takes it. Empty: it has none.
  std::string family;
  double settle = 0;                   // Needed::settle
  uint64_t staging = UINT64_MAX;       // bytes of memory for copies. What is beyond them is written from where it lies, and save() returns when that is done
  PageLock page_lock;                  // of memory that devices copy into
  std::shared_ptr<Uploads> uploads;    // null: what is written is durable
  std::function<Status()> still_there; // asked before a directory that went away is made again: whether it would be where it was
  std::shared_ptr<Meeting> meeting;    // of a run of several ranks: all save the same steps; rank 0 has the lease, the names and the retention. Null: one process
  double patience = 600;               // seconds that a rank waits for another one that tells nothing
  std::function<void(const std::string&)> on_notice;
};

// Begins to copy the tensors of a snapshot that lie on devices, in the snapshot's order, into memory of the host; what comes back waits until they are there.
using DeviceCopy = std::function<Result<std::function<Status()>>(const std::vector<std::byte*>& into)>;

// One save under way or done.
class Save {
 public:
  int64_t step() const { return step_; }
  bool done() const;
  // Until it is written, for at most `seconds`; its error. kInterrupted where it was aborted; kFailed "is still being written" where the time is over.
  Status wait(std::optional<double> seconds = std::nullopt) const;
  // Whether all of it is in the bucket; kDone where what is written is durable, kPending of one that is being written or went wrong.
  Upload uploaded() const;
  // It is given up, unless it is committed already; the checkpoint before it stays the newest.
  void abort() { cancel_.cancel(); }
  // Its error, if it has one that nobody has heard of; that of one that was aborted is nobody's concern.
  Status untold() const;

 private:
  friend class Saver;
  bool went_wrong() const;
  Save(int64_t step, std::shared_ptr<Uploads> uploads) : step_(step), uploads_(std::move(uploads)) {}
  void finish(Status s);
  const int64_t step_;
  const std::shared_ptr<Uploads> uploads_;
  std::string path_;                // of what was written, with
  std::vector<std::string> files_;  // these
  uint64_t bytes_ = 0;
  double closed_ = 0;
  mutable bool in_bucket_ = false;  // it was seen there
  CancelToken cancel_;
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  bool done_ = false;
  mutable bool told_ = false;  // its error has come out somewhere
  Status status_;
};
using SavePtr = std::shared_ptr<Save>;

struct Stats {
  int64_t saves = 0, skipped = 0, failed = 0;
  int64_t newest = -1;         // the newest durable step of this process, -1: none
  double newest_time = 0;      // seconds since 1970
  double newest_age = 0;       // seconds, by a clock that nobody sets
  // The newest of this process that is in the bucket, -1: none, nothing: it cannot be found out. Where nothing is uploaded behind one's back it is `newest`.
  std::optional<int64_t> uploaded = -1;
  uint64_t pending_bytes = 0;  // written, and not in the bucket as far as is known
  double stall_seconds = 0;    // of the last save(): what the training waited
  double save_seconds = 0;     // of the last one, from the call until it was durable
  uint64_t bytes = 0;          // of the last one
  uint64_t written_bytes = 0;  // without what an earlier checkpoint had
  uint64_t staging_bytes = 0;  // memory held for copies
};

// Thread-safe. Everything that is done to the directory is this object's, until close().
class Saver {
 public:
  // Takes the lease and removes what saves left that did not end. Errors: kFailed for a directory that cannot be written to.
  static Result<std::unique_ptr<Saver>> open(Store& store, const std::string& directory, SaverOptions options);
  ~Saver();

  // Copies `live` and returns; its tensors may change then, whatever was not copied (SaverOptions::staging) has been written. The error of an earlier save comes out here, once. A step that is under way or that this process has saved
  // gives the handle it had. Null: skipped, as the options say. Errors: kFailed (no room on the disk, no memory), kUsage.
  Result<SavePtr> save(Snapshot live, const DeviceCopy& from_devices = nullptr);
  Status report(int64_t step, const Metrics& metrics);
  // A save whose parts other processes write, and whose talk is somebody else's (together.h, Ticket): its ticket's text. One at a time: what was begun before and not published is given up. `bytes`: of all ranks.
  Result<std::string> begin_parts(int64_t step, uint64_t bytes);
  // Committed on return, and older ones pruned. `texts`: the step, the state's text, small files, metrics. kUsage where that step was not begun, or the parts do not fit together.
  Status publish_parts(Snapshot texts, const std::vector<std::string>& parts);
  void abandon_parts();
  // Until nothing is under way, retention included; an error that has not come out yet.
  Status wait();
  // The same, and nothing is saved any more.
  Status close();
  Stats stats() const;
  int64_t epoch() const { return lease_.epoch; }

 private:
  Saver(Store& store, std::string directory, SaverOptions options) : store_(store), directory_(std::move(directory)), options_(std::move(options)), device_staging_(options_.page_lock) {}
  bool leads() const { return !options_.meeting || options_.meeting->rank() == 0; }
  // The same on all ranks.
  std::string next_attempt() { return fmt::format("{} {}", lease_.owner, ++attempts_); }
  // What rank 0 finds in the directory, and its lease; the other ranks hear of the lease.
  Status begin();
  Status take_over();
  std::optional<Manifest> already_there(int64_t step) const;
  // Whether a save that finds another one under way is left out: of several ranks rank 0 says it.
  Result<bool> skips(bool busy);
  // The bytes of the tensors into staging memory; false where some had no room there.
  Result<bool> stage(Snapshot* live, const DeviceCopy& from_devices);
  void work();
  Status write(const Snapshot& snapshot, Save* handle);
  Result<Saved> write_one(const Snapshot& snapshot, const SaveOptions& options);
  SaveOptions options_for(Save* handle);
  // What follows a commit, retention apart.
  void note(int64_t step, Save* handle, Saved saved);
  void prune_and_tell();
  Status prune();
  // Whether what is to be written fits; makes the directory again where it went away.
  Status check_room(const Snapshot& live);
  Status check_room(int64_t step, uint64_t bytes);
  // The checkpoint whose files a save of that step may link to.
  std::optional<Manifest> link_source(int64_t step) const;
  std::optional<bool> in_bucket(const Found& f) const;
  // Of what was written how much is not in the bucket; forgets what is there.
  uint64_t look_at_uploads() const;
  void notice(const std::string& text) const {
    if (options_.on_notice) options_.on_notice(text);
  }

  Store& store_;
  const std::string directory_;
  SaverOptions options_;
  Lease lease_;
  Staging staging_, device_staging_;
  StillTensors still_;
  std::vector<Found> found_;  // as prune() saw the directory last; its thread's alone

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Manifest> previous_;  // the newest in the directory
  std::optional<Snapshot> next_;
  SavePtr current_, last_;  // under way; the last that ended well
  mutable std::vector<SavePtr> pending_;             // written, and not seen in the bucket: the oldest first
  mutable std::optional<int64_t> uploaded_ = -1;     // Stats::uploaded
  std::map<int64_t, Clock::time_point> written_at_;  // by step, of this process
  std::string told_too_much_;                        // what Uploads::too_much() said last
  std::chrono::steady_clock::time_point called_;
  SavePtr failed_;  // whose error may not have come out
  std::optional<Ticket> parts_;  // begun, and not published
  std::mutex metrics_mutex_;
  uint64_t attempts_ = 0, asked_ = 0;
  std::vector<std::pair<int64_t, Metrics>> reports_;  // of a step that is under way
  Stats stats_;
  bool closing_ = false, tidying_ = false;  // tidying: reports and retention after a save
  std::thread thread_;
};

}  // namespace ingot::checkpoint
