// Commit: from bytes that are written to outputs under their final names. In two phases, each repeatable: everything is written
// and made durable under hidden names and verified, which the journal records; then each output is published by steps of which any rerun finds
// out from the names and the recorded hashes how far they came, and finishes them.
//
// Beside an output NAME lie, while it is unfinished (KEY: the first 12 digits of the job's key; a long NAME is shortened):
//   .NAME.ingot-lock          held by whoever writes NAME, whatever the job
//   .NAME.ingot-KEY.part      the file or directory that becomes NAME
//   .NAME.ingot-KEY.old       the directory that --force replaces, between its leaving the name and its removal
//   .NAME.ingot-KEY.journal   beside the first output (.journal.rN of rank N, with .rN.lock)
//   .NAME.ingot-KEY.progress  what a computation has before there are bytes of NAME (progress_file.h)
// On a store without rename a file is an upload under its final name instead, invisible until it is completed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "commit/destination.h"
#include "commit/journal.h"

namespace ingot {

// The root hash that an output was published with, as far as its store keeps notes; empty when there is none.
std::string noted_root(Store& store, const std::string& path);

class Commit {
 public:
  Commit(const std::vector<Destination>& outputs, const CommitOptions& options) : outputs_(outputs), options_(options) {}
  ~Commit();
  Commit(const Commit&) = delete;
  Commit& operator=(const Commit&) = delete;

  // Names alone, before any work: one place for each output, no output in another, none over a source, kinds that fit. kUsage.
  Status check_names(const std::vector<const ReadFile*>& sources);
  // `key`: in the hidden names and the note; `content`: of the journals whose records count. `stamp`: of the sources as they were opened.
  void set_key(std::string key, std::string content, std::string stamp) { key_ = std::move(key), content_ = std::move(content), stamp_ = std::move(stamp); }
  const std::string& stamp() const { return stamp_; }

  // The journal's store and its name without the rank.
  Store& journal_store() const;
  std::string journal_base() const;
  std::string journal_of(int rank) const;
  std::vector<JournalOutput> journal_outputs() const;
  // What the journals of all ranks of this job say.
  Result<JournalState> read_journals() const;

  // Rank 0 and a single process: every output's lock. Other ranks: their own, for which they wait while rank 0 publishes.
  Status lock();
  // Rank 0, when all have finished: no rank begins again while its work is published.
  Status lock_ranks();
  // Unfinished runs of other jobs: one that was to write an output of this one is discarded, others are told of.
  Status clear_leftovers();
  // This job's own unfinished run is discarded, that of all its ranks; what it was replacing comes back where nothing has its name.
  // `verified`: a hidden name may hold what was replaced.
  Status start_over(bool verified);
  // What an unfinished run leaves on disk, in words; empty when nothing lies there.
  std::string remains() const;

  // Outputs that this very job made earlier and nobody touched since.
  Status find_published(bool compare_stamp);
  bool published(size_t o) const { return targets_[o].published; }
  bool all_published() const;
  void forget_published(size_t o) { targets_[o].published = false, targets_[o].root.clear(); }
  const std::string& noted_root(size_t o) const { return targets_[o].root; }

  // What is there and may not be replaced. kUsage. `publishing`: an earlier run of this job had begun to publish.
  Status check_existing(bool publishing) const;
  // What --force would remove beside an older output. kUsage with the list.
  Status check_replaced(size_t o, const FileSizes& files) const;
  Status check_space(const std::vector<FileSizes>& files) const;

  bool direct(size_t o) const { return !outputs_[o].store->capabilities().rename; }
  // Where a file is written: under the final name only on stores where that stays invisible until complete().
  std::string root(size_t o) const;
  std::string path_of(size_t o, const std::string& file) const;
  // Its name when all is done.
  std::string final_path_of(size_t o, const std::string& file) const;

  // How far an earlier run came whose journal says that all was verified. `whole(root)`: what lies under that name is the output.
  enum class Found { kUnfinished, kReady, kPublished };
  Result<Found> settle(size_t o, const std::function<bool(const std::string& root)>& whole);
  // Sizes and names under root(o) are those of `files`, no file more or less.
  Status check_whole(size_t o, const FileSizes& files, const std::string& root) const;
  // The directory of an unfinished output, without what is none of `files`.
  Status make_part(size_t o, const FileSizes& files);

  // One output to its final name. Finished steps of an earlier run are found and not repeated. `complete` ends uploads.
  Status publish(size_t o, const FileSizes& files, const std::string& root_hash, const std::function<Status()>& complete);
  // All are published: journals and locks go, this rank's journal last.
  Status clean();
  // What this run began goes, for one that nothing can be gained from.
  void discard();

  // Temporary names in a message become the names of the outputs.
  Status in_users_terms(Status s) const;

 private:
  struct Target {
    std::string resolved;  // where it leads: two with the same are one
    std::string named;     // its own name in its directory's one spelling
    std::unique_ptr<StoreLock> lock;
    bool published = false;
    std::string root;  // hash that was noted when it was published
  };
  Store& store(size_t o) const { return *outputs_[o].store; }
  const std::string& path(size_t o) const { return outputs_[o].path; }
  std::string temporary(size_t o, const std::string& suffix) const;
  std::string rank_lock(int rank) const;
  Result<std::unique_ptr<StoreLock>> wait_for(const std::string& lock, const std::string& what) const;
  Result<bool> empty_directory(size_t o) const;
  bool owns(size_t o, const FileSizes& files, const std::string& name) const;
  Status make_parents();
  Status remove_old(size_t o, const FileSizes& files) const;
  struct Unfinished;
  static std::string named_by(const std::string& directory, const JournalOutput& out);
  Status drop(Store& st, const std::string& hidden, const std::string& final_name, bool replaced, const std::function<bool(const std::string&)>& known) const;
  Status drop_output(Store& st, const std::string& final_name, const std::string& key, bool verified) const;
  Result<std::vector<std::unique_ptr<StoreLock>>> hold_ranks(Store& st, const std::string& journal) const;
  Status remove_journals(Store& st, const std::string& journal) const;
  Status discard_unfinished(Store& st, const std::string& journal, const Unfinished& job, const std::vector<std::string>& others);
  Status tell_unfinished(Store& st, const std::string& directory, const Unfinished& job);
  void notice(const std::string& text) const {
    if (options_.on_notice) options_.on_notice(text);
  }

  const std::vector<Destination>& outputs_;
  const CommitOptions& options_;
  std::string key_, content_, stamp_;
  std::vector<Target> targets_;
  std::vector<std::unique_ptr<StoreLock>> rank_locks_;
  std::vector<std::pair<Store*, std::string>> made_;  // directories above outputs, in the order of making
};

}  // namespace ingot
