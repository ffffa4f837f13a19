// Products of activations with weight matrices: y[t, r] = sum over k of x[t, k] * W[r, k]. The order of each
// sum depends on nothing but the matrix's columns, so neither threads nor how many tokens come at once change
// a bit.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "infer/weights.h"

namespace ingot {

struct Product {
  const WeightMatrix* w = nullptr;
  float* y = nullptr;  // [tokens, w->rows]
};

// All products take the same x [tokens, cols]. Weights are expanded to f32 exactly and sums are f32, except
// for matrices with a packed form, which are multiplied in int8 (packed.h).
void multiply(ThreadPool& pool, const float* x, int64_t tokens, std::span<const Product> products);

}  // namespace ingot
