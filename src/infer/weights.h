// WeightMatrix: one tensor of a model in memory, in its own type, ready for products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "quant/decode.h"
#include "tensor/artifact.h"

namespace ingot {

// 64-byte aligned bytes that are not zeroed first (weights are gigabytes); null when memory is short.
struct FreeBytes {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeBytes>;
AlignedBytes allocate_aligned(uint64_t bytes);

struct ExecOptions;   // exec/executor.h
struct PackedMatrix;  // packed.h

struct WeightMatrix {
  std::string name;
  DType type = DType::kF32;
  int64_t rows = 0, cols = 0;
  int64_t part = 0, parts = 1;  // which matrix of a 3-D tensor, and how many it has
  uint64_t row_bytes = 0;
  float scale = 1;  // of what products with it give: a tensor beside it (formats/gguf_scales.h)
  std::shared_ptr<const std::byte[]> data;  // null when only the packed form is kept
  std::shared_ptr<const PackedMatrix> packed;
  bool by_tiles = false;  // of two tokens or more (bf16_tiles.h)
  Decode decode = nullptr;

  explicit operator bool() const { return data || packed; }
  const std::byte* row(int64_t r) const { return data.get() + static_cast<uint64_t>(r) * row_bytes; }
  uint64_t bytes() const { return static_cast<uint64_t>(rows) * row_bytes; }
};

// Tensors of a model on their way into memory: named first, each checked against what the metadata asks for, then loaded together by exec's pipeline.
class WeightLoader {
 public:
  explicit WeightLoader(const Artifact& artifact) : artifact_(artifact) {}
  // `name` must have exactly this shape and a type whose values are read. *out is complete after load().
  Status matrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out);
  // [n, rows, cols]: n matrices of one tensor.
  Status matrices(const std::string& name, const Shape& shape, std::vector<WeightMatrix>* out);
  // A vector (norm, bias) as f32, whatever its shape.
  Status vector(const std::string& name, const Shape& shape, std::vector<float>* out);
  Status load(const ExecOptions& options);

 private:
  struct Wanted {
    const LazyTensor* tensor;
    std::shared_ptr<std::byte[]> bytes;
    std::vector<float>* vector;  // null for a matrix
  };
  Status want(const std::string& name, const Shape& shape, std::vector<float>* vector);
  const Artifact& artifact_;
  std::vector<Wanted> wanted_;
};
// n values of one row as f32; the matrix has its plain data.
void decode_row(const WeightMatrix& w, int64_t row, float* out);

}  // namespace ingot
