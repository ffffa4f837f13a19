// The keys that an embedded JSON file (an architecture, a name map) may have.
#pragma once

#include <initializer_list>

#include "formats/json.h"

namespace ingot {

// An error, begun by `what`, where it is no object, or has a key that is none of these.
Status known_keys(const Json& j, std::initializer_list<std::string_view> keys, const std::string& what);

}  // namespace ingot
