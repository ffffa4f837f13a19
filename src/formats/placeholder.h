// What lies under a file's name in place of the file.
#pragma once

#include <string_view>

namespace ingot {

// "is a git-lfs pointer, ..; run ..": what these first bytes are and what to do, if they stand in for a file that was never downloaded;
// else empty. No format begins so.
std::string_view placeholder(std::string_view head);

}  // namespace ingot
