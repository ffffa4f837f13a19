// A checkpoint back into memory that the caller has, verified while its bytes pass.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/directory.h"
#include "tensor/shape.h"

namespace ingot::checkpoint {

// "model-00001-of-00002.safetensors", and the index of such, "model-rank-00003.safetensors": "model". Empty for a file of no tensors.
std::string group_of(std::string_view file);

// A tensor as a group's file has it.
struct Stored {
  std::string group, name;
  TensorSpec spec;
  std::string file;     // within the directory
  uint64_t offset = 0;  // of its bytes there
};
// Of all groups, from the headers alone.
Result<std::vector<Stored>> tensors_of(Store& store, const Found& checkpoint);

struct Target {
  Stored from;
  MutByteView into;  // as many bytes as from.spec has
};
// Every file of the checkpoint is read once and compared; what the targets want goes into place on the way. kBadInput: a file is not what the manifest says, and what
// the targets hold is of no use.
Status restore(Store& store, const Found& checkpoint, const std::vector<Target>& targets, int threads);

}  // namespace ingot::checkpoint
