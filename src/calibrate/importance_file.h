// An importance matrix as a file. What lies where in it is known before the sums are, so that a job is refused, or found done, before hours of work; the executor writes
// it then like any other output.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "calibrate/importance_matrix.h"
#include "exec/executor.h"

namespace ingot::calibrate {

struct ImportanceFileOptions {
  bool older = false;  // llama-imatrix's .dat, else its GGUF
  // What the sums are made of: whatever changes them beside `sources`, which are files' tensors (of the model, of matrices that are merged).
  std::string key;
  std::vector<NodePtr> sources;
  std::vector<std::string> datasets;
  uint32_t chunks = 0, chunk_size = 0;
};

class ImportanceFile {
 public:
  ImportanceFile(std::vector<WeightShape> weights, ImportanceFileOptions options);
  // Its values may be asked for after fill().
  Output output(Store& store, const std::string& path) const;
  // The older kind of file leaves out what no token reached; output() is to be asked again. kBadInput, naming the tensor: it is missing, of another shape, or has a sum that
  // is no f32.
  Status fill(const transform::ImportanceSums& sums);

  struct Values;  // what the tensors are filled with

 private:
  std::vector<WeightShape> weights_;  // by name
  ImportanceFileOptions options_;
  std::shared_ptr<Values> values_;
};

// The shapes of what was read from files.
std::vector<WeightShape> shapes_of(const transform::ImportanceSums& sums);

}  // namespace ingot::calibrate
