// ingot doctor of a directory of training checkpoints, or of a place where some could lie.
#pragma once

#include <string>

#include "cli/command.h"

namespace ingot::cli {

// False, and nothing done, where that is not what lies there: a model, a file, nothing.
Result<bool> doctor_checkpoints(Context& c, const std::string& given);

}  // namespace ingot::cli
