// The layers of a GGUF model ("blk.N."), and a model without some of them (llama-quantize --prune-layers; ShortGPT, arXiv:2403.03853).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "tensor/artifact.h"
#include "transform/importance.h"

namespace ingot::transform {

// N of "blk.N.", or -1.
int64_t layer_of(std::string_view name);

// The model without these layers: the others are numbered anew from 0, and block_count follows, with it whatever the metadata has for each layer (lists of block_count
// elements) and the number of leading dense layers. A usage error for a layer that is not there, for all layers, and for a model of an encoder and a decoder. What the
// user should know of it goes to the notices: a model whose loader tells layers apart by their numbers is another one then.
Result<Artifact> prune_layers(const Artifact& gguf, const std::set<int64_t>& layers);

// The importance matrix of the whole model as that of the pruned one.
Importance without_layers(const Importance& whole, const std::set<int64_t>& layers);

}  // namespace ingot::transform
