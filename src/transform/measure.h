// Measures: what the values of a tensor are, and by how much those of two tensors differ. Folds, so that a whole model is measured in one pass of the executor
// (exec/load.h), within its memory and on its threads.
#pragma once

#include <cstdint>
#include <vector>

#include "exec/executor.h"

namespace ingot::transform {

// Whether ingot knows what the bytes of the type mean: floats and blocks with a codec, integers, bool, F64.
bool has_values(DType t);

struct TensorMeasure {
  uint64_t count = 0, nan = 0, infinite = 0, zero = 0;
  double min = 0, max = 0, sum = 0, squares = 0;  // of the finite values
  int64_t first_nonfinite = -1;                   // counted from the tensor's start
  uint64_t finite() const { return count - nan - infinite; }
};

// Two tensors of one shape, `a` against the reference `b`. Equal NaN and equal infinities are no difference; what is NaN or infinite on one side only counts as a
// difference, in no sum.
struct TensorDifference {
  bool same_bytes = false;  // of one type, and every byte the same
  uint64_t count = 0, different = 0;
  uint64_t nonfinite = 0;  // of those that are different: NaN or infinite on a side
  double max_error = 0, sum_error = 0, squared_error = 0, squares_a = 0, squares_b = 0, product = 0;
  int64_t worst = -1;  // where max_error is, counted from the tensor's start
  double mean_error() const { return count ? sum_error / static_cast<double>(count) : 0; }
  double relative() const;  // |a - b| / |b|, Euclidean
  double cosine() const;
};

// One for each tensor; what has no values (has_values()) is an error by name.
Result<std::vector<TensorMeasure>> measure(const std::vector<LazyTensor>& tensors, const ExecOptions& options);
// At most `count` of them, of the first row.
Result<std::vector<double>> first_values(const LazyTensor& tensor, size_t count);
// `bins` counts between min and max, the last with its upper end.
Result<std::vector<uint64_t>> histogram(const LazyTensor& tensor, double min, double max, int bins, const ExecOptions& options);
// One for each pair of a shape. Where both are of one type without values their bytes alone are compared.
struct TensorPair {
  NodePtr a, b;
};
Result<std::vector<TensorDifference>> differences(const std::vector<TensorPair>& pairs, const ExecOptions& options);

}  // namespace ingot::transform
