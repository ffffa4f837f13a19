// NVFP4 with a scale beside it. A block's own scale is an unsigned E4M3 number: below 2^-6 it has fewer bits, and most weights' would be there. So the whole tensor is divided by
// what brings its largest value to the largest that the type has (448 * 6), which stands beside it (formats/gguf_scales.h); of a 3-D tensor each matrix by its own.
#pragma once

#include "tensor/artifact.h"

namespace ingot::transform {

struct Nvfp4Scaled {
  NodePtr values;  // `floats` divided by the scale
  NodePtr scale;   // F32, [1] or [matrices]; 1 where all values are zero
};
// `floats`: F32, with two or three dimensions.
Nvfp4Scaled nvfp4_scaled(NodePtr floats);
// Whether llama.cpp multiplies by such a scale beside this weight of this model.
bool has_nvfp4_scale(const Artifact& gguf, std::string_view weight);

}  // namespace ingot::transform
