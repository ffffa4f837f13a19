// A class that is not known, tried by its tensors as one of those that most models are like (Architecture::by_tensors).
#pragma once

#include <functional>
#include <string>

#include "model/architecture.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// By config.json's class, else by the tensors: where all have names and shapes of an architecture and each key of config.json is one that it reads or that
// changes nothing, it is taken, and `on_notice` (which may be empty) is told. The error says what does not fit. `path` is the configuration's.
Result<const Architecture*> architecture_or_like(const Artifact& hf, const Json& config, const std::string& path, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
