// What a LazyModel holds.
#pragma once

#include "ingot/ingot.h"
#include "tensor/artifact.h"

namespace ingot {

struct LazyModel::Impl {
  Artifact artifact;
};

}  // namespace ingot
