// The mix of texts that ships with ingot: data/texts/CATEGORY.txt, compiled in. Each file has two halves, of the same kinds of text and with no paragraph in common.
#pragma once

#include <string_view>
#include <vector>

#include "calibrate/texts.h"

namespace ingot::calibrate {

// The line between the halves of a file.
inline constexpr std::string_view kHalves = "\n==== what follows is for evaluation ====\n";

std::vector<Text> builtin_texts(BuiltinHalf half);

}  // namespace ingot::calibrate
