// A path as a user gives it: ${VAR} expanded, and what is wrong where nothing lies there.
#pragma once

#include <string>

#include "storage/store.h"

namespace ingot {

// ${VAR} replaced by the environment's value; an unset one is an error that names it. ${VAR:-TEXT} is TEXT (in which
// variables are replaced too) where VAR is unset or empty. "$VAR" and "$" stay.
Result<std::string> expand_variables(const std::string& path);
// The same of a path that must not be empty; a ~ that no shell has replaced is an error.
Result<std::string> expand_path(const std::string& given);

// "; did you mean 'dir/model.gguf'?" of the name nearest beside it, or empty.
std::string meant_path(const std::string& path);
// That what is named lies there and may be read. `name`: what may be a model's on the Hub, or empty.
Status check_there(const std::string& path, const std::string& name);

}  // namespace ingot
