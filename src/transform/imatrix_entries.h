// An importance matrix as llama-imatrix's older files (.dat) have it, whichever kind of file it is in: what makes the two comparable.
#pragma once

#include <string_view>

#include "tensor/artifact.h"

namespace ingot::transform {

// What llama-imatrix calls the tensors of a weight in its GGUF files: the weight's name, and one of these.
inline constexpr std::string_view kImatrixSums = ".in_sum2", kImatrixCounts = ".counts";

// Of a GGUF one: for each weight, under its name, the mean of each input column's squares times the chunks that were read, with the arithmetic of llama-imatrix, which
// leaves out what has no data and writes 1 for an expert that was never chosen; its numbers of chunks and calls and its dataset as plain values. Else `a` itself.
Result<Artifact> imatrix_entries(const Artifact& a);

}  // namespace ingot::transform
