// Every checkpoint in a directory that anybody left, read to its end: which are whole, what of the others can be taken. Nothing is changed.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "checkpoint/directory.h"

namespace ingot::checkpoint {

enum class Outcome {
  kWhole,       // ours: every hash is that of the manifest
  kUnverified,  // others': read to its end, and nothing in it contradicts itself; what it should be nobody wrote down
  kTorn,
};
const char* outcome_name(Outcome o);

struct Fault {
  std::string path;  // the file
  std::string what;  // a sentence that names it
  std::string part;  // that it takes away ("optimizer"); empty: everything
};
// A file that has the bytes another one should have.
struct Repair {
  std::string from, to;
};

// One checkpoint, or what is left of it.
struct Remains {
  std::string path;     // its directory, its file, or of several files of one step the model's
  std::string made_by;  // "ingot", "transformers Trainer", "Lightning", "torch DCP", "a script"
  std::optional<int64_t> step;
  Outcome outcome = Outcome::kUnverified;
  uint64_t bytes = 0, files = 0;
  std::string checked;                             // how it was looked at
  std::map<std::string, bool, std::less<>> parts;  // of kParts, and whether each can be used
  std::vector<Fault> faults;
  std::vector<Repair> repairs;
  std::vector<std::string> notes;
  std::string weights;  // a path that opens as its model; empty where there is none
  Found found;          // of ours
  // A run can go on from it as it was.
  bool resumes() const;
};

// One file that several of ours have: what becomes of it becomes of all.
struct SharedFile {
  std::string name;
  uint64_t bytes = 0;
  std::vector<int64_t> steps;  // newest first
};

struct Rescue {
  std::vector<Remains> all;  // ours in a resume's order, then others' by step, the greatest first
  std::vector<SharedFile> shared;
  std::vector<std::string> notes;  // what was passed over, and what `latest` says of what is not there
  const Remains* resumable() const;     // that a resume should take; null: none
  const Remains* with_weights() const;  // the newest with a model that opens
};

struct RescueOptions {
  bool quick = false;  // sizes, headers and ends of files; not every byte
  int threads = 0;
  CancelToken* cancel = nullptr;
  std::function<void(uint64_t done, uint64_t total)> progress = nullptr;  // bytes; from several threads
};
// Of a directory, or of one checkpoint itself. kBadInput where it cannot be listed; kInterrupted.
Result<Rescue> rescue(Store& store, const std::string& path, const RescueOptions& options);

}  // namespace ingot::checkpoint
