// Texts that show what a tokenizer does otherwise under llama.cpp.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/parts.h"

namespace ingot {

// Made from the directory's tokenizer and what llama.cpp makes of the file; some thousands at most.
Result<std::vector<std::string>> gguf_probes(const TokenizerParts& ours, const TokenizerParts& theirs);

}  // namespace ingot
