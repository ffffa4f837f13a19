// What an adapter's directory holds beside factors: the tokenizer that it was trained with, its chat templates.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// Into the files of the model, `*files`: the adapter's take the place of the base's. Where it brings another vocabulary, what the base's files say of ids goes
// with the base's; tokenizer_config.json, which names special tokens by their texts, stays if the adapter has none. The adapter's templates take the
// place of all of the base's; if it has none, those stay, wherever they were. Told where that changes what is read or written: tokens, special tokens,
// templates. `rows`: of the embedding. `resized`: it is the adapter's own, so that other tokens are no surprise. Errors: kBadInput where the base's
// tokenizer can be read and the result cannot, for a damaged file of it, and for a tokenizer with more tokens than rows, as Tokenizer::to_gguf_vocab counts them.
Status take_adapter_files(const Artifact& adapter, int64_t rows, bool resized, std::map<std::string, std::string>* files,
                          const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
