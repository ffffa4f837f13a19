// How long encoding will take, by encoding a little of each type: what --dry-run tells.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "quant/codec.h"

namespace ingot::cli {

// Values of each type that are encoded, with an importance matrix or without.
using EncodedValues = std::map<std::pair<DType, bool>, int64_t>;
// Seconds that one thread computes, by samples of some milliseconds on this machine as it is now.
double encode_seconds(const EncodedValues& values, Effort effort);

}  // namespace ingot::cli
