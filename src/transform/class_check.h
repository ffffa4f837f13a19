// Whether a Hugging Face model has the tensors of its class, in the shapes that config.json makes them: what transformers would make up at random, or refuse, is
// told before a directory of it is written.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

struct ClassReport {
  std::vector<std::string> errors;   // what is missing, what has another shape: each one text, with a count and the first names
  std::vector<std::string> unknown;  // tensors that the class has not
};
// Of a model as it is loaded (as_loaded.h), of several parts the text part. Nothing where the class is not known, config.json does not say its numbers, or the
// weights are quantized.
std::optional<ClassReport> examine_class(const Artifact& model);

// The first error as one; tensors that the class has not are told, with `strict` an error. `on_notice` may be empty.
Status check_class(const Artifact& model, bool strict, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
