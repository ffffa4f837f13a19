// A state that has been copied: what one checkpoint is made of.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "formats/parts.h"
#include "tensor/shape.h"

namespace ingot::checkpoint {

struct Tensor {
  std::string name;
  TensorSpec spec;
  const std::byte* bytes = nullptr;  // row-major, packed; of a live tensor on a device: null
  bool still = false;                // in a file apart from those that change: an earlier checkpoint may have it
  std::optional<PartOf> part = std::nullopt;  // of a tensor that ranks share
  bool on_device() const { return !bytes && bytes_of(spec) > 0; }
};

// The tensors of one key of the state: GROUP.safetensors, or shards of that stem.
struct Group {
  std::string name;
  std::vector<Tensor> tensors;
  std::string stem = {};  // of its files, where several ranks, or several groups of one rank, have files of that name; empty: the name
};

struct Snapshot {
  int64_t step = 0;
  std::vector<Group> groups;
  std::string state;                         // the text of state.json
  std::map<std::string, std::string> files;  // by name: config.json, the tokenizer's
  Metrics metrics;
  std::string signature = {};  // lines that tell what is saved, "KEY TYPE SHAPE": the same on all ranks of a run; empty: nothing is compared
  std::shared_ptr<const void> memory;  // keeps the tensors' bytes
  uint64_t bytes() const;
};

}  // namespace ingot::checkpoint
