// What 'ingot verify' finds in a model's bytes, whatever format it is in: all of it, not the first alone.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/paths.h"
#include "commit/verify.h"
#include "formats/formats.h"
#include "transform/nonfinite.h"

namespace ingot::cli {

struct Finding {
  const char* kind;  // as --json has it: structure, checksum, index, unreadable, nonfinite, metadata, hash, manifest
  std::string message;
  std::vector<std::string> tensors = {};
};

struct Verification {
  TreeHash tree;  // of the file or directory itself
  uint64_t bytes = 0;  // read of files, those of other parts of a set included
  double seconds = 0;
  uint64_t records = 0, unsummed = 0;  // of archives: whose checksum was compared, and that have none
  size_t indexes = 0;
  struct Tensor {
    std::vector<std::string> names;  // all that it has
    TensorSpec spec;
    transform::Looked looked;
    transform::Nonfinite found;
  };
  std::vector<Tensor> tensors;
  std::vector<Finding> errors, warnings;
};

// Reads every byte once; what lies in no file as it is (packed, turned, strided) a second time, by the executor. `faults` are those of opening it.
Result<Verification> examine(Context& c, const Located& at, const Artifact& model, const Faults& faults);

}  // namespace ingot::cli
