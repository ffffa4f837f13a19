// The model out of a training state, which has it beside an optimizer and plain values: Lightning's "state_dict", DeepSpeed's and Megatron-LM's "module", a
// script's "model".
#pragma once

#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// That part alone under the names that its module has; what has names of a model already stays as it is. `notice`: what was taken, and what was left.
// kBadInput where no part, or none alone, is a model's.
Result<Artifact> model_state(const Artifact& state, std::string* notice);

}  // namespace ingot::transform
