// Weights that were saved without their values.
#pragma once

#include "tensor/artifact.h"

namespace ingot::transform {

// kBadInput where weights of a model or adapter are empty: DeepSpeed's ZeRO-3 (and FSDP) keep each parameter in shards, of which a plain
// save writes nothing.
Status check_gathered(const Artifact& a);

}  // namespace ingot::transform
