// What an adapter's directory holds beside factors: the tokenizer that it was trained with, its chat template.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// Into the files of the model, `*files`: the adapter's tokenizer takes the place of the base's as a whole, its templates likewise; a template that only the base has
// stays. Told where that changes what is read or written: tokens, special tokens, templates. `rows`: of the embedding. `resized`: it is the adapter's own, so that
// other tokens are no surprise. Errors: kBadInput for a tokenizer with more tokens than rows.
Status take_adapter_files(const Artifact& adapter, int64_t rows, bool resized, std::map<std::string, std::string>* files,
                          const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
