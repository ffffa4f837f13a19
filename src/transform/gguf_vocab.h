// Tokenizers of artifacts: the tokenizer.* keys of GGUF metadata, both ways, and the files of a Hugging Face directory.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "tensor/artifact.h"
#include "tokenizer/tokenizer.h"

namespace ingot::transform {

// Appends the keys in the order in which the reference converter writes them.
void append_vocab(const GgufVocab& vocab, std::vector<std::pair<std::string, MetaValue>>* metadata);
// From an opened GGUF; an error names the key that is missing or of another type.
Result<GgufVocab> gguf_vocab(const Artifact& gguf);


// From the files of a Hugging Face directory, which lies at `path`, by their names.
Result<Tokenizer> hf_tokenizer(const std::map<std::string, std::string>& files, const std::string& path,
                               const std::function<void(const std::string&)>& on_warning);

}  // namespace ingot::transform
