// Where what may be lost is kept between runs.
#pragma once

#include <optional>

#include "storage/store.h"

namespace ingot {

// $XDG_CACHE_HOME/ingot, else ~/.cache/ingot; made if need be. Nothing where that cannot be, or cannot be written.
std::optional<Located> cache_directory();

}  // namespace ingot
