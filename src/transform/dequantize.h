// Weights of a Hugging Face directory that are stored as something else than plain floats.
#pragma once

#include <functional>

#include "tensor/artifact.h"

namespace ingot::transform {

// The model with plain float weights, and a configuration that says nothing of quantization, where it can be had:
//  - FP8 weights with their scales (those of DeepSeek, compressed-tensors, FBGEMM and ModelOpt) are multiplied, lazily, into
//    the float type that config.json names (BF16 where it names none); scales of activations and of the cache are left out;
//  - a quantization_config over weights that are all plain floats, left over when they were de-quantized, is taken out.
// `on_notice` is told of both. Else the artifact as it is. An error where scales do not fit their weights.
Result<Artifact> dequantized(const Artifact& model, const std::function<void(const std::string&)>& on_notice = {});

// kBadInput, naming the scheme and some of its tensors, if config.json says that the weights are quantized and they are.
// `doing` begins the message; `then` follows what to do.
Status check_plain(const Artifact& model, const std::string& doing, const std::string& then = {});

}  // namespace ingot::transform
