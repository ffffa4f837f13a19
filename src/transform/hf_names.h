// A model whose tensors have another framework's names (Megatron's, NeMo's) as the Hugging Face model that it is: names, fused rows cut apart, config.json made of
// the framework's own configuration. What is what is said by data/names/*.json.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// `values`: the checkpoint's plain values, among which its configuration may be. With a config.json among the model's files that one counts, and what contradicts it
// is an error. A model of other names is given back as it is. kBadInput: a tensor that has no place in any class, one of another shape than the configuration makes
// it, one that is missing, or a configuration that does not say enough.
Result<Artifact> with_hf_names(Artifact model, const std::map<std::string, std::string>& values, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
