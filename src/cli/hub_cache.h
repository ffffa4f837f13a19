// The Hugging Face cache on disk, whose folders look like models and are none.
#pragma once

#include <string>

#include "base/status.h"

namespace ingot::cli {

// An error that names the snapshot to give instead where `path` is a repository of the cache (models--ORG--NAME), its
// snapshots/ or the cache itself; else nothing.
Status check_hub_cache(const std::string& path);

}  // namespace ingot::cli
