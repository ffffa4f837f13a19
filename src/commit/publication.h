// Publication: from what every rank has written to outputs under their final names. Holds the names and sizes of all files and the hashes of their leaves,
// whoever wrote them: this process, others whose journals tell, or others that passed their Written.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "commit/commit.h"
#include "commit/verify.h"
#include "commit/written.h"

namespace ingot {

class Publication {
 public:
  using Hashes = std::vector<std::optional<Hash128>>;  // of the leaves of a file

  Publication(const std::vector<Destination>& outputs, const CommitOptions& options, Commit& commit) : outputs_(outputs), options_(options), commit_(commit) {}
  // The files of each output.
  void begin(std::vector<FileSizes> files);
  // All that the ranks have written, a file by its name. kUsage where they contradict each other.
  Status begin(const std::vector<Written>& of_all_ranks);

  const std::vector<FileSizes>& files() const { return files_; }
  const FileSizes& files(size_t o) const { return files_[o]; }
  Hashes& hashes(size_t o, size_t f) { return hashes_[o][f]; }
  // Whole under its hidden name since an earlier run, or published.
  bool done(size_t o) const { return ready_[o] || commit_.published(o); }
  bool all_done() const;
  std::string root_hash(size_t o) const;
  // What is not published yet is there, with the sizes and, as options.verify says, the bytes that were written.
  Status check_written() const;

  // An earlier run had verified all and was publishing when it was killed: what lies under which name is found out from the content. `recorded` no
  // longer says "verified" where something has to be made again.
  Status settle(Journal& journal, JournalState* recorded);
  // Waits until the journals of all ranks say that they have finished, and takes their hashes, also into this rank's own journal. `mine`: its own leaves.
  Status gather(Journal& journal, const JournalState& recorded, const std::function<bool(const LeafId&)>& mine);
  // Everything is there: publishes it. From here on any rerun finishes the job, whatever stops this one.
  Status publish(std::unique_ptr<Journal> journal);

 private:
  std::string written_root(size_t o) const;
  bool all_hashed(size_t o) const;
  VerifyRun verify_run() const;
  LeavesToVerify leaves_of(size_t o, size_t f, const std::string& root, Hashes hashes, bool unseen) const;
  const std::vector<Destination>& outputs_;
  const CommitOptions& options_;
  Commit& commit_;
  std::vector<FileSizes> files_;
  std::vector<std::vector<Hashes>> hashes_;  // of each file of each output
  std::vector<bool> ready_;
};

}  // namespace ingot
