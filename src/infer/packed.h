// PackedMatrix: quantized weights laid out for int8 dot products, and the product with activations rounded to
// int8.
//
// Sixteen rows lie interleaved, four columns of each at a time, so that one 64-byte register holds 16 rows
// and every row sums in its own lane: no sum across lanes, no shuffles. Codes take 2 to 8 bits; the values are exactly those of the codec. Activations are rounded to int8 in blocks of 32 with an
// f32 scale: that is the only error of a product.
// packings.h has the form of each type.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "infer/weights.h"

namespace ingot {

struct PackedMatrix {
  DType type = DType::kQ8_0;
  int64_t rows = 0, cols = 0;
  int64_t strips = 0;  // ceil(rows / 16); the last one is padded with zeros
  uint64_t strip_bytes = 0;
  AlignedBytes data;
};

// The instructions that multiply bytes, on this machine and by the target that is active: AVX-512 VNNI, or at least AVX2.
bool machine_has_vnni();
bool machine_has_byte_products();
// Whether the machine has the instructions that make packing worth it, and the type has a packed form.
bool can_pack(DType type);
// What the packed form takes.
uint64_t packed_bytes(DType type, int64_t rows, int64_t cols);
// Makes the packed form; null when memory is short or the type has none. Works on any machine.
std::shared_ptr<const PackedMatrix> pack_matrix(ThreadPool& pool, const WeightMatrix& w);

// Activations [tokens, cols] in int8; cols is a multiple of 32. A block with NaN or infinity gets a NaN
// scale.
struct Int8Activations {
  int64_t tokens = 0, cols = 0;
  std::vector<int8_t> q;
  std::vector<float> scale;   // [tokens, cols / 32]
  std::vector<int32_t> sums;  // [tokens, cols / 16], of q
  // Where the machine has tiles of int8: of each sixteen tokens that are whole, for each block q [16][32], scale [16], and scale times the sum of the block's q, of its first half's and its second
  // half's [3][16].
  std::vector<int8_t> tiles;
  std::vector<float> tile_scale, tile_sums;
  int64_t groups() const { return static_cast<int64_t>(tile_scale.size()) * 2 / std::max<int64_t>(1, cols); }

  void quantize(ThreadPool& pool, const float* x, int64_t tokens, int64_t cols);
};

// y[t, r] for the 16 rows of each strip in [first, last).
void multiply_strips(const PackedMatrix& w, int64_t first, int64_t last, const Int8Activations& x, float* y);

}  // namespace ingot
