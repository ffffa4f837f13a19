// The metrics and sizes of a directory's checkpoints over their steps, as an SVG file.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/directory.h"

namespace ingot::cli {

// Of those that have a manifest; what is not whole is drawn hollow.
std::string checkpoint_curve(const std::string& directory, const std::vector<checkpoint::Found>& all);

}  // namespace ingot::cli
