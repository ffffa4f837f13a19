// Whether a GGUF is the model that its metadata tells of: counts against tensors, rows against tokens, shapes against
// lengths and head counts. What lies where in the file is the reader's matter (src/formats/gguf_read.cc).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "tensor/artifact.h"

namespace ingot::transform {

struct GgufReport {
  // Contradictions, each with what was found and what was expected: whoever uses the file as a model refuses it.
  std::vector<std::string> faults;
  // Ids of special tokens that no token has: nothing to the weights, but its tokenizer cannot be read, nor the model converted.
  std::vector<std::string> token_faults;
  // What ingot can live with and llama.cpp cannot.
  std::vector<std::string> warnings;
};

// Architectures in data/architectures are checked tensor by tensor, all others by what every architecture's metadata says
// (block_count, embedding_length, tokens): those are quantized without being known.
GgufReport examine_gguf(const Artifact& gguf);

// A count or a length of the metadata: an integer from 0 to UINT32_MAX.
std::optional<int64_t> count_of(const MetaValue& value);

// The first fault as an error. A file without any tensor is a vocabulary: good for a tokenizer alone.
enum class GgufUse { kWeights, kTokenizer };
Status check_gguf(const Artifact& gguf, GgufUse use);

// By general.architecture and whether it is a mixture of experts; null if it is not known.
const Architecture* architecture_of(const Artifact& gguf);

// What the metadata makes of a param of the architecture ("heads") in a layer; nothing where it does not say. Both must outlive it.
using MetadataParams = std::function<std::optional<int64_t>(const std::string& param, int64_t layer)>;
MetadataParams metadata_params(const Artifact& gguf, const Architecture& arch);

}  // namespace ingot::transform
