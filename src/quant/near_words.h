// For encoders of the types whose values are codewords (grids.h): of each point that as many free numbers could be, the words that lie nearest.
#pragma once

#include <cstdint>

namespace ingot {

// How many words are kept for a point.
inline constexpr int kNearWords = 8;
// A point is its levels as digits, the first value's the lowest; its words begin at kNearWords times that number, nearest first. A word is that of the grid, its index above it at bit 16.
// Made at the first call; thread-safe.
const uint32_t* near_iq2_xxs();
const uint32_t* near_iq2_xs();
const uint32_t* near_iq2_s();
const uint32_t* near_iq3_xxs();
const uint32_t* near_iq3_s();
const uint32_t* near_iq1();

}  // namespace ingot
