// NaN and infinity in the bytes of tensors: counted among all values of a float type, among the scales of a block type, of which one spoils a whole block.
#pragma once

#include <cstdint>
#include <vector>

#include "exec/executor.h"

namespace ingot::transform {

struct Nonfinite {
  uint64_t nan = 0, infinite = 0;
  uint64_t total() const { return nan + infinite; }
};

// What can be looked at in elements of a type. kNothing: it holds neither (integers, bool); kUnknown: where its scales lie is not known here.
enum class Looked { kValues, kScales, kNothing, kUnknown };
Looked looked_at(DType t);

// Of whole elements (of a block type: blocks), little-endian, at any address.
Nonfinite nonfinite_in(DType t, ByteView elements);
// Of tensors, one for each, by the executor; those of types that cannot be looked at have none.
Result<std::vector<Nonfinite>> nonfinite(const std::vector<LazyTensor>& tensors, const ExecOptions& options);

}  // namespace ingot::transform
