// A GGUF model within safetensors, nothing lost: docs/formats/gguf-in-safetensors.md.
#pragma once

#include <string_view>

#include "tensor/artifact.h"

namespace ingot {

// The tensor that holds the GGUF header; a file with it is such a model.
inline constexpr std::string_view kGgufHeaderTensor = "gguf.header";

// The model's tensors as safetensors can have them, blocks as their bytes, and its header among them.
Result<Artifact> gguf_as_bytes(const Artifact& gguf);
// The way back, of what was opened; another artifact stays as it is. Reads the header.
Result<Artifact> gguf_from_bytes(Artifact opened);

}  // namespace ingot
