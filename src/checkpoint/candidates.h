// Where in a tree of directories checkpoints lie, whoever made them, and which files belong to each: by names alone, nothing is read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/formats.h"

namespace ingot::checkpoint {

struct CandidateFile {
  std::string name;  // within the candidate's directory
  std::string path;
  std::string part;  // that it holds, by its name; empty where that says nothing
  Stat stat;
};

struct Candidate {
  enum class Kind {
    kOurs,        // a directory with our manifest, or our nest
    kUnfinished,  // a hidden directory that one of our saves began
    kDirectory,   // of others
    kBeside,      // model, optimizer and so on that lie in the directory of a run
    kFile,        // one file that is all of it, or files of one step
  } kind = Kind::kDirectory;
  std::string path;
  std::optional<int64_t> step;  // by its name
  std::vector<CandidateFile> files;
};

// What the names do not lead to (links to directories, what cannot be listed) is told in `notes`.
Result<std::vector<Candidate>> find_candidates(Store& store, const std::string& path, std::vector<std::string>* notes);

}  // namespace ingot::checkpoint
