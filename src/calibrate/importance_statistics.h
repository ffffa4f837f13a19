// Figures of an importance matrix, as llama-imatrix --show-statistics defines them: of the mean of the squares of each input column of a tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transform/importance.h"

namespace ingot::calibrate {

struct TensorStatistics {
  std::string name, kind;  // "blk.3.attn_q.weight", "attn_q"
  int64_t layer = -1;      // -1: of none
  int64_t matrices = 1, unreached = 0;  // those that no token came to; they count in nothing below
  double tokens = 0;       // inputs, of all matrices together
  int64_t elements = 0;    // columns, of all matrices that were reached
  double sum = 0, min = 0, max = 0, mean = 0, deviation = 0;
  double active = 0;       // share of columns whose mean square is above 1e-5
  double entropy = 0;      // of the columns' shares of the sum, in bits
  double zd = 0;           // share of columns that lie more than a deviation above the mean
  std::optional<double> cosine;  // between the sums and those of the layer before, where it has them
  double entropy_share() const;  // of the most that so many columns can have
};
// By kind, then by layer.
std::vector<TensorStatistics> statistics(const transform::ImportanceSums& sums);

// The means of a layer's tensors, weighted by their columns.
struct LayerStatistics {
  int64_t layer = 0;
  double sum = 0, zd = 0, cosine = 0;
};
std::vector<LayerStatistics> layer_statistics(const std::vector<TensorStatistics>& tensors);

// What fewer than `least` tokens came to: a tensor, or one of its matrices.
struct Few {
  std::string name;
  int64_t matrix = -1;  // -1: the tensor has one
  double tokens = 0;
};
std::vector<Few> few(const transform::ImportanceSums& sums, double least);

}  // namespace ingot::calibrate
