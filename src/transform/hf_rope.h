// "rope_scaling" of config.json from what a GGUF file says of it: the way back from gguf_rope.h.
#pragma once

#include "formats/json.h"
#include "model/architecture.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// Adds it to `config`, which has all else that the angles are made of. Reads the tensors of factors, which are short.
Status add_rope_scaling(const Artifact& gguf, const Architecture& arch, int64_t rope_dim, OrderedJson* config);

}  // namespace ingot::transform
