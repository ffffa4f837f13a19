// The tokenizer.* keys of GGUF metadata, both ways.
#pragma once

#include "tensor/artifact.h"
#include "tokenizer/tokenizer.h"

namespace ingot::transform {

// Appends the keys in the order in which the reference converter writes them.
void append_vocab(const GgufVocab& vocab, std::vector<std::pair<std::string, MetaValue>>* metadata);
// From an opened GGUF; an error names the key that is missing or of another type.
Result<GgufVocab> gguf_vocab(const Artifact& gguf);

}  // namespace ingot::transform
