// The tensors of a model as a tree of its modules, alike ones folded: "layers.0-31".
#pragma once

#include <string>

#include "tensor/artifact.h"

namespace ingot::cli {

std::string tensor_tree(const Artifact& artifact);

}  // namespace ingot::cli
