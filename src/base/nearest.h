// The word that was meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ingot {

// The word nearest to `word` by edits (a transposition is one), or empty if none is near enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& words);

}  // namespace ingot
