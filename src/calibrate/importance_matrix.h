// ImportanceMatrix: for each weight that products are made with, the sum of the squares of each input column, and how many inputs there were; of a 3-D tensor for each
// of its matrices (the experts that a mixture chose). What llama-imatrix collects; facts of its files: docs/formats.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "infer/weights.h"
#include "tensor/artifact.h"

namespace ingot::calibrate {

class ImportanceMatrix {
 public:
  struct Entry {
    int64_t cols = 0;
    std::vector<double> sums;     // [matrices, cols]
    std::vector<int64_t> counts;  // [matrices]: rows of inputs
    int64_t calls = 0;            // products made with the tensor, as llama-imatrix counts them for its older files
  };

  // Makes room for a tensor of so many matrices, so that one that no token reaches is there with counts of 0.
  void expect(const std::string& name, int64_t cols, int64_t matrices);
  // x [rows, cols], the input of w.
  void add(const WeightMatrix& w, const float* x, int64_t rows);
  // Sums and counts added; kBadInput where a tensor has another number of columns or matrices.
  Status merge(const ImportanceMatrix& other);

  const std::map<std::string, Entry>& entries() const { return entries_; }
  std::vector<std::string> datasets;
  int64_t chunks = 0, chunk_size = 0;

 private:
  std::map<std::string, Entry> entries_;
  // The squares of the last input, summed: several weights are multiplied with one input.
  const float* last_ = nullptr;
  std::vector<double> squares_;
};

}  // namespace ingot::calibrate
