// The journal of a job: what its outputs are, which leaves of which files hold what was computed, and the facts. Appended as the
// work goes; after a kill, a record counts only if it is whole, and a leaf only if its re-read bytes have the recorded hash, so
// only what the commit rests on is synced. Format: docs/formats/journal.md.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/hash.h"
#include "storage/store.h"

namespace ingot {

struct LeafId {
  int output, file;
  uint64_t leaf;
  auto operator<=>(const LeafId&) const = default;
};

// What a job writes, so that whoever finds its journal can tell and remove it.
struct JournalOutput {
  std::string path;  // a name alone: in the journal's own directory; else an absolute path
  bool directory = false;
};

// What the journals of all ranks say.
struct JournalState {
  std::string key;  // empty: no journal of this version
  std::vector<JournalOutput> outputs;
  std::string stamp;  // of the sources when the run began
  bool touched = false;  // of several journals: one has another stamp, and what it records does not count
  std::map<LeafId, Hash128> leaves;
  std::map<std::string, std::string> facts;
  std::set<std::pair<int, int>> finished;  // (rank, world) that have written, synced and verified all they own
  bool verified = false;                   // every output is whole: only publishing is left
};

class Journal {
 public:
  // Opens this rank's journal of the job with that key; a file with another key or version starts anew.
  static Result<std::unique_ptr<Journal>> open(Store& store, const std::string& path, const std::string& key, bool resume);
  // What one journal file says; nothing where it has another key (empty: any key will do).
  static Result<JournalState> read(Store& store, const std::string& path, const std::string& key);

  Status begin(const std::vector<JournalOutput>& outputs, const std::string& stamp);
  Status leaf(const LeafId& id, const Hash128& hash);
  // What was recorded of this file counts no longer: its medium failed.
  Status distrust(int output, int file);
  Status fact(const std::string& key, const std::string& bytes);
  Status finished(int rank, int world);
  // Durable on return.
  Status verified();

 private:
  Status append(char kind, const std::string& payload);
  std::mutex mutex_;
  std::unique_ptr<WriteFile> file_;
  uint64_t size_ = 0;
};

}  // namespace ingot
