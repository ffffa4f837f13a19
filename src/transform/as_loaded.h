// A Hugging Face model as its library has it in memory, whatever lies in the files.
#pragma once

#include <functional>
#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// What its class takes for granted (class_rules.h), plain floats (dequantize.h), plain names (key_names.h; the scales of a weight are found by the name that
// both have in the file), then the tensors as the class ties them. What is no Hugging Face model stays as it is. `on_notice` may be empty.
Result<Artifact> as_loaded(const Artifact& model, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
