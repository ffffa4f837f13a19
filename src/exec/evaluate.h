// Evaluation of one region of a lazy tensor without a job: for tests and inspection.
// No budget, no threads; the same bytes as the executor's.
#pragma once

#include <vector>

#include "tensor/node.h"

namespace ingot {

// Packed row-major bytes of `region`; folds beneath are run as needed.
Result<std::vector<std::byte>> evaluate(const NodePtr& node, const Region& region);
inline Result<std::vector<std::byte>> evaluate(const NodePtr& node) {
  return evaluate(node, Region::all(node->spec().shape));
}

}  // namespace ingot
