// Of a model of several parts (a vision model, whose config.json has a text_config) the language model, as a directory of its own would hold it.
#pragma once

#include <functional>
#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// Its tensors under plain names, its configuration as the root's, and both as the class has them (class_rules.h). Other models stay as they are. kBadInput where no
// tensor is found, or the text's class is not known. `on_notice` may be empty.
Result<Artifact> text_part(Artifact model, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
