// Whether a path is there, and as what. "It cannot be told" is an error and never "it is not there".
#pragma once

#include <optional>
#include <string>

#include "storage/store.h"

namespace ingot {

// Nothing: no such file or directory. A link that leads nowhere is there; opening it says what is wrong.
Result<std::optional<Entry>> look_up(Store& store, const std::string& path);

}  // namespace ingot
