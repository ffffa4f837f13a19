// Showing pieces of hostile text in messages.
#pragma once

#include <string>
#include <string_view>

namespace ingot {

// `text` in quotes, control characters and ill-formed bytes escaped, cut after about 60 characters.
std::string quoted(std::string_view text);

}  // namespace ingot
