// What an importance matrix says of a model's weights, from the files of llama-imatrix of both kinds (formats/imatrix.cc; GGUF of general.type imatrix), several merged.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

// What the files hold: sums of the squares of each input column of a tensor's matrices, and how many inputs there were.
struct ImportanceSums {
  struct Entry {
    std::vector<double> values;  // [matrices, columns]
    std::vector<double> counts;  // [matrices]
    std::string file;            // the first that has it
  };
  std::map<std::string, Entry> entries;
  std::vector<std::string> datasets;
  uint32_t chunks = 0;      // of all files together
  uint32_t chunk_size = 0;  // the largest that a file names; 0: none does
};

// Several files are merged as if their texts had been read in one run: sums are added, and counts. kBadInput names the file, the entry and what is wrong with it: NaN, an
// infinite or a negative value, another number of values than the same entry of another file, no importance matrix at all. The older kind of file has one count for all
// matrices of a tensor, and no size of its chunks: it is then that of the other files, else `usual_chunk`.
Result<ImportanceSums> read_importance_sums(const std::vector<Artifact>& files, uint32_t usual_chunk = 512);
// Adds those of another run.
Status add_sums(const ImportanceSums& other, ImportanceSums* sums);

struct Importance {
  // Where the values are computed after the job is known (--calibrate), and stand for nothing until then: what they are made of. Empty: they are there.
  std::string key;
  // Of a tensor by its name: the mean of the squares of each input column, one after another for the matrices of a 3-D tensor.
  std::map<std::string, std::shared_ptr<const std::vector<float>>> weights;
  std::vector<std::string> files;  // their paths
  std::string dataset;             // of the first that names one
  uint32_t chunks = 0;             // of all files together
  std::vector<std::string> notices;
};

// Means of the sums; columns of a matrix that was never used count alike.
Importance importance_of(const ImportanceSums& sums);
// Of several merged files.
Result<Importance> read_importance(const std::vector<Artifact>& files);

}  // namespace ingot::transform
