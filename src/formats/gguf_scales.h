// Scales beside the weights of a GGUF file: a tensor NAME.scale of F32, [1], or [n] beside the n matrices of a 3-D NAME.weight (what the converter writes for NVFP4, whose blocks
// have scales of eight bits alone). llama.cpp multiplies each product with such a weight by it, with the output layer's only where that is NVFP4. NAME.input_scale is for
// activations, and changes no weight.
#pragma once

#include <string>
#include <string_view>

#include "tensor/artifact.h"

namespace ingot {

// The scale's name of a weight's: "blk.0.attn_q.scale" of "blk.0.attn_q.weight".
std::string gguf_scale_name(std::string_view weight);
// Weights that have a scale stay the bytes that they are, and their values (Node::unrounded) are multiplied by it. kBadInput: a scale of another type or shape.
Status bind_gguf_scales(Artifact* gguf);
// Takes away the scales (and input scales) of this weight, whose values have them now.
void drop_gguf_scales(std::string_view weight, Artifact* gguf);
// The tensor's values: with its scale, where it has one beside it.
NodePtr gguf_values(const Artifact& gguf, const LazyTensor& t);
// Whether `name` is that of such a tensor, beside a weight.
bool is_gguf_scale(const Artifact& gguf, std::string_view name);

}  // namespace ingot
