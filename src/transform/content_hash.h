// The two hashes of what the tensors of a model hold, exact and value: docs/formats/hashes.md has their definition.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/executor.h"

namespace ingot::transform {

// An output for a job, beside whatever else that writes: all tensors in both forms, one file each, to a store that keeps nothing. When the
// job has passed their bytes, the roots of the files make the hashes: in ExecReport::digests, or in a layout's late extents.
struct ContentHash {
  using Roots = std::function<std::string(size_t file)>;
  struct Tensor {
    std::string name;
    TensorSpec spec;
    size_t file = 0;
    std::string hash(const Roots& roots) const;
  };

  std::vector<Tensor> exact, value;  // by name
  std::string as_it_is;              // why the value hash agrees with that of no other format, if so
  Output output;
  std::shared_ptr<Store> store;

  uint64_t bytes() const;  // that the job passes for it
};

Result<ContentHash> content_hash(const Artifact& a);
// Of ContentHash::exact or ::value.
std::string hash_of(const std::vector<ContentHash::Tensor>& tensors, const ContentHash::Roots& roots);

}  // namespace ingot::transform
