// Showing pieces of hostile text in messages.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ingot {

// `text` in quotes, control characters and ill-formed bytes escaped, cut after about `shown` bytes.
std::string quoted(std::string_view text, size_t shown = 60);

}  // namespace ingot
