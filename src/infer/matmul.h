// Products of activations with weight matrices: y[t, r] = sum over k of x[t, k] * W[r, k]. The order of each
// sum depends on nothing but the matrix's columns, so neither threads nor how many tokens come at once change
// a bit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "infer/bf16_tiles.h"
#include "infer/packed.h"
#include "infer/weights.h"

namespace ingot {

struct Product {
  const WeightMatrix* w = nullptr;
  float* y = nullptr;  // [tokens, w->rows]
};

// Memory that products and attention need beside their operands, kept from call to call: some for each thread of the pool.
// Not thread_local: where memory is short, glibc ends the process that registers a destructor.
class WorkMemory {
 public:
  void prepare(int threads);
  // At least so many floats, 64-byte aligned, of the thread's buffer number `which`; null when there is no memory.
  float* floats(int thread, int which, int64_t n);

  struct Share {  // rows, or strips of a packed matrix
    const Product* product;
    int64_t first, n;
  };
  // One token alone is multiplied as it lies, which reads least; by tiles here, too, where a token's bits must not depend on how many come with it.
  bool one_by_tiles = false;
  std::vector<Share> shares;
  Int8Activations rounded;
  Bf16Activations parts;

 private:
  static constexpr int kBuffers = 2;
  struct alignas(64) Thread {
    AlignedBytes buffers[kBuffers];
    int64_t sizes[kBuffers] = {};
  };
  std::vector<Thread> threads_;
};

// All products take the same x [tokens, cols]. Weights are expanded to f32 exactly and sums are f32, except
// for matrices with a packed form, which are multiplied in int8 (packed.h), and those that are multiplied by tiles where two tokens or more come at once (bf16_tiles.h). Fails when memory for that is short.
Status multiply(ThreadPool& pool, WorkMemory& memory, const float* x, int64_t tokens, std::span<const Product> products);

}  // namespace ingot
