// For tests of LoRA: matrices, and what a merge gives in f64.
#pragma once

#include "transform/transform_testing.h"

namespace ingot::testing {

struct Matrix {
  int64_t rows, cols;
  std::vector<float> v;
  double at(int64_t i, int64_t j) const { return v[static_cast<size_t>(i * cols + j)]; }
};
inline Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed, float scale = 1) {
  return {rows, cols, random_floats(rows * cols, seed, scale)};
}
inline NodePtr node(const Matrix& m) { return f32_tensor({m.rows, m.cols}, m.v); }

// W + s B A, or its transpose's form, in f64.
inline double exact(const Matrix& w, const Matrix& a, const Matrix& b, double s, bool transposed, int64_t i, int64_t j) {
  double sum = 0;
  for (int64_t k = 0; k < a.rows; ++k) sum += transposed ? a.at(k, i) * b.at(j, k) : b.at(i, k) * a.at(k, j);
  return w.at(i, j) + s * sum;
}

}  // namespace ingot::testing
