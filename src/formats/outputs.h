// From an artifact to an Output that the executor can write: the artifact with the layout of a format bound to it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "formats/safetensors.h"

namespace ingot {

Output gguf_output(Artifact artifact, Store& store, const std::string& path);
// One file, or where the tensors take more than max_shard bytes (0: no limit) splits as llama-gguf-split makes them:
// PREFIX-00001-of-0000N.gguf for a path PREFIX.gguf, the metadata in the first.
Result<std::vector<Output>> gguf_outputs(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard);
// The same by the rules of llama-gguf-split, where each is set; `always`: one file has the name of a split, too.
struct GgufSplit {
  uint64_t bytes = 0, tensors = 0;
  bool bare_first = false;  // the first file has no tensors
  bool always = false;
  bool as_source = false;   // a file for each of the source's, with what comes from it
};
Result<std::vector<Output>> gguf_splits(Artifact artifact, Store& store, const std::string& path, const GgufSplit& split);
// A directory that transformers loads. config.json is written with the dtype that the weights have.
Output hf_directory_output(Artifact artifact, Store& store, const std::string& path,
                           uint64_t max_shard = kDefaultShardBytes);
Output safetensors_output(Artifact artifact, Store& store, const std::string& path);
// An importance matrix as llama-imatrix's older files (.dat) have it: tensors and values as imatrix.cc reads them. `calls` of the entries, where they are known only when
// the tensors are; else they stand in the artifact's values.
Output imatrix_output(Artifact artifact, Store& store, const std::string& path, std::function<Result<std::vector<int32_t>>()> calls = nullptr);
// The small files of a model directory as they are written beside these weights: config.json says the dtype that most of them have.
std::map<std::string, std::string> side_files_of(std::map<std::string, std::string> files, const std::vector<NamedSpec>& specs);
// By name as in --to (output_formats.h), or by the extension of the path when it is empty, else a Hugging Face directory.
Result<Output> make_output(Artifact artifact, Store& store, const std::string& path, const std::string& format,
                           uint64_t max_shard = kDefaultShardBytes);

}  // namespace ingot
