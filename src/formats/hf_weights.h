// Which files of a directory hold the model: found by transformers' rule and from names alone. And where it holds none, or not all
// of them, what lies there instead.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/formats.h"

namespace ingot {

inline constexpr char kSingleName[] = "model.safetensors";
inline constexpr char kIndexName[] = "model.safetensors.index.json";
inline constexpr char kTorchName[] = "pytorch_model.bin";
inline constexpr char kTorchIndexName[] = "pytorch_model.bin.index.json";

// The files "{prefix}-00001-of-0000N.safetensors" (or .bin) of one N.
struct ShardSet {
  std::string prefix;
  uint64_t of = 0;
  std::map<uint64_t, std::string> files;  // by their number
  // From 1 to N, or from 0 to N - 1, each once.
  bool whole() const;
  uint64_t absent() const { return of - std::min<uint64_t>(of, files.size()); }
};

// "a, b, c and 4 more".
std::string some_of(const std::vector<std::string>& names, size_t most = 3);

// The number that a name ends with: "checkpoint-500". Nothing of a name that is a number alone.
std::optional<uint64_t> step_of(const std::string& name);
// What is before it: "checkpoint-".
std::string_view family_of(std::string_view name);

struct WeightFiles {
  std::vector<std::string> files;  // by name; where an index says which belong to the model: all that lie there
  std::string index;               // its name; empty where there is none
  std::vector<std::string> notices;
};
// transformers' rule first: model.safetensors, its index, pytorch_model.bin, its index. Then what no loader needs an index for: shards whose names prove
// the set whole, and the only file there is; of safetensors, else of torch.
Result<WeightFiles> find_weights(Store& store, const Probe& directory);
// What config.json names itself (transformers_weights), which goes before all others; nothing where it names none.
Result<std::optional<WeightFiles>> named_weights(const Probe& directory, const std::string& config);
// "model.safetensors" of "./model.safetensors" and of "a/../model.safetensors".
std::string plain_path(const std::string& path);
// A path that cannot lead out of the directory.
bool is_inside(const std::string& path);
// Whether a file that an index names is there; of one in a subdirectory whoever opens it says so.
bool is_listed(const Probe& directory, const std::string& path);
// How sure it is that the directory is a model's, 0 to 100.
int weights_score(const Probe& directory);

// What to say of a directory that an index describes: some of the files that it names are not there. `why` is the error of the first of
// those that are there and cannot be read, if one is.
Error absent_shards(Store& store, const Probe& directory, const std::string& index, const std::vector<std::string>& named, const std::string& why);
// Files of weights that the index does not name, for a notice; empty if there are none.
std::string left_over(const Probe& directory, const std::vector<std::string>& named);

// Why there are no weights that can be opened, and where they are: "; give its subdirectory .." Of a directory without any.
std::string without_weights(Store& store, const Probe& directory);

}  // namespace ingot
