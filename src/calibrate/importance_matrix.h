// ImportanceMatrix: for each weight that products are made with, the sum of the squares of each input column, and how many inputs there were; of a 3-D tensor for each
// of its matrices (the experts that a mixture chose). What llama-imatrix collects, in f64. Files: importance_file.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "infer/config.h"
#include "tensor/artifact.h"
#include "transform/importance.h"

namespace ingot::calibrate {

// A tensor that products are made with.
struct WeightShape {
  std::string name;
  int64_t cols = 0, matrices = 1;
};
// Those of a GGUF-shaped model's layers; with `output` the output's too (token_embd.weight where the model has no other). What an importance matrix of it has, before
// any of its weights are read.
std::vector<WeightShape> product_weights(const Artifact& gguf, const ModelConfig& config, bool output);
// The name that the engine gives the output's matrix, whatever tensor it is.
inline constexpr std::string_view kOutputName = "output.weight";

class ImportanceMatrix {
 public:
  struct Entry {
    int64_t cols = 0;
    std::vector<double> sums;     // [matrices, cols]
    std::vector<int64_t> counts;  // [matrices]: rows of inputs
  };

  ImportanceMatrix() = default;
  // Room for these, so that an expert that no token reaches is there with a count of 0. Nothing else is collected.
  explicit ImportanceMatrix(const std::vector<WeightShape>& expected);

  // x [rows, cols], the input of a product with matrix `part` of the tensor. The rows of a call are summed alone and added then: the bits depend on how rows are put
  // together to calls, and on nothing else.
  void add(ThreadPool& pool, std::string_view name, int64_t part, const float* x, int64_t rows, int64_t cols);
  // The sums and counts of another one of the same tensors.
  void copy(const ImportanceMatrix& from);
  // kBadInput, naming the tensor and the column, where a sum is none that an f32 can hold.
  Status check_finite() const;

  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  transform::ImportanceSums sums() const;

  // All of it as bytes, and back into one of the same tensors: kBadInput, and nothing changed, where they are not of it.
  std::string bytes() const;
  Status restore(ByteView bytes);

 private:
  bool seen(const double* to, const float* x, int64_t rows, int64_t cols) const;

  std::map<std::string, Entry, std::less<>> entries_;
  // The last input: several weights are multiplied with one (query, key and value), and it is squared once.
  const float* last_ = nullptr;
  int64_t last_rows_ = 0;
  std::vector<float> last_row_;        // its last row: what lies in a buffer changes
  std::vector<const double*> served_;  // where its squares have gone: a weight is not multiplied twice with one input
  std::vector<double> squares_;        // [cols], of all its rows
};

}  // namespace ingot::calibrate
