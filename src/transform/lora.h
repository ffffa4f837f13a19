// Folding PEFT LoRA adapters into a base model, tensor by tensor as they stream.
#pragma once

#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

struct AdapterSpec {
  Artifact adapter;   // opened as "peft"
  double weight = 1;  // scales the whole update
};

// base + sum of weight * s * B A, adapters in order. Changed tensors are F32, so that whatever follows rounds once;
// others pass as they are. The configuration in base.files follows (a tied output that was untied, the name). Every
// module of an adapter must be one of the base's and every key of its file must be used.
Result<Artifact> lora_merge(const Artifact& base, const std::vector<AdapterSpec>& adapters);

}  // namespace ingot::transform
