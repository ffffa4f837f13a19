// safetensors: u64 header length, JSON header, data. Reading a single file, a Hugging
// Face directory (one file or an index with shards, plus its small side files); layouts for writing both.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "exec/layout.h"
#include "formats/file_tensor.h"
#include "formats/formats.h"
#include "tensor/artifact.h"

namespace ingot {

// One parsed file.
struct SafetensorsFile {
  std::vector<LazyTensor> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;
  std::vector<std::string> notices;
  bool torch = false;  // it is none, but one of torch
};
Result<SafetensorsFile> read_safetensors(const OpenedFile& file);
Result<SafetensorsFile> read_safetensors(Store& store, const std::string& path);
// A file of a directory's weights: safetensors, or one of torch, whatever it is called.
Result<SafetensorsFile> read_weights_file(Store& store, const std::string& path);

// Under this key of a file's __metadata__ stand the plain values of a state beside its tensors: one JSON object, by their paths.
inline constexpr char kValuesKey[] = "ingot.values";

// Where the default limit of a shard lies, as huggingface_hub has it: 5 GB.
inline constexpr uint64_t kDefaultShardBytes = 5'000'000'000;

// One file, byte for byte as the reference writer makes it: tensors by falling alignment of their type, then by name;
// the header padded with spaces so that the data begins at a multiple of `align` (a power of two; the reference's: 8).
// `metadata` empty: {"format": "pt"}.
Result<Layout> layout_safetensors(const std::vector<NamedSpec>& specs, const std::map<std::string, std::string>& metadata = {}, uint64_t align = 8);

// A Hugging Face directory: model.safetensors, or model-00001-of-0000N.safetensors with an index when the tensors take
// more than max_shard bytes. Tensors fill the shards in the artifact's order. `files` are written as they are.
Result<Layout> layout_hf_directory(const std::vector<NamedSpec>& specs, const std::map<std::string, std::string>& files,
                                   uint64_t max_shard);

// The small files that travel with a directory's weights, read together with them: adds the calls for those of `names` that are there,
// and moves what they read.
const std::vector<std::string>& tokenizer_side_files();  // of models and adapters: the tokenizer, its templates, how it generates
using SideFiles = std::vector<std::pair<std::string, Result<std::string>>>;
Status ask_side_files(Store& store, const Probe& directory, const std::vector<std::string>& names, SideFiles* side, Calls* calls);
Status take_side_files(Store& store, const Probe& directory, SideFiles side, Artifact* a);
// Those of a model directory, whatever weights it has: for weights that came without. kBadInput where it has no config.json.
Result<std::map<std::string, std::string>> read_side_files(Store& store, const std::string& directory);

}  // namespace ingot
