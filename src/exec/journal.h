// The journal of a job: which leaves of which files hold what was computed, and the facts. Appended as the work goes;
// after a kill, a record counts only if it is whole, and a leaf only if its re-read bytes have the recorded hash,
// so nothing here needs an fsync. Format: docs/formats/journal.md.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "kernels/hash.h"
#include "storage/store.h"

namespace ingot {

struct LeafId {
  int output, file;
  uint64_t leaf;
  auto operator<=>(const LeafId&) const = default;
};

// What the journals of all ranks say.
struct JournalState {
  std::map<LeafId, Hash128> leaves;
  std::map<std::string, std::string> facts;
  std::set<std::pair<int, int>> finished;  // (rank, world) that have written all they own
  bool verified = false;                   // every output was verified; only renames were left
};

class Journal {
 public:
  // Opens this rank's journal of the job with that key; a file with another key or version starts anew.
  static Result<std::unique_ptr<Journal>> open(Store& store, const std::string& path, const std::string& key, bool resume);
  // The state recorded in one journal file, empty when it has another key.
  static Result<JournalState> read(Store& store, const std::string& path, const std::string& key);

  Status leaf(const LeafId& id, const Hash128& hash);
  Status fact(const std::string& key, const std::string& bytes);
  Status finished(int rank, int world);
  Status verified();

 private:
  Status append(char kind, const std::string& payload);
  std::mutex mutex_;
  std::unique_ptr<WriteFile> file_;
  uint64_t size_ = 0;
};

}  // namespace ingot
