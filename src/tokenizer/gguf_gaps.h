// What a GGUF file cannot say of a tokenizer: found by encoding texts with the directory's tokenizer and with what llama.cpp
// makes of the file, and told apart by taking the one to the other in steps.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace ingot {

// The closed list, in the order of the steps.
enum class GgufGap {
  kNormalizedTokens,  // added tokens sought in normalized text
  kNormalizer,
  kSpaceAtTokens,  // lstrip, rstrip
  kSingleWord,
  kTokenOrder,   // of overlapping added tokens
  kTokenTexts,   // which texts are tokens whatever stands around them
  kSpacePrefix,  // add_prefix_space of ByteLevel
  kPreTokenizer,
  kIgnoreMerges,
  kUnknownBytes,
  kTokensBefore,
  kTokensAfter,
  kSplitSpecial  // split_special_tokens: the last step before what stands around a text
};

struct GgufFinding {
  GgufGap gap;
  std::string what;                   // "GGUF cannot say ..."
  std::string text;                   // an example
  std::vector<int32_t> ours, theirs;  // its ids: the directory's and those under llama.cpp
  std::string describe() const;       // all of it, in one line
};

// The gaps that show in `texts`, one finding each with its shortest example.
Result<std::vector<GgufFinding>> find_gguf_gaps(const Tokenizer& directory, const GgufVocab& written, std::vector<std::string> texts);
// In texts made for this tokenizer.
Result<std::vector<GgufFinding>> find_gguf_gaps(const Tokenizer& directory, const GgufVocab& written);

}  // namespace ingot
