// The tokenizer of a GGUF file as the files of a Hugging Face directory: what the tokenizers library reads, and which then makes the tokens that the
// file's keys tell of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace ingot {

struct HfTokenizer {
  std::map<std::string, std::string> files;  // tokenizer.json and tokenizer_config.json
  std::vector<std::string> notices;          // what GGUF does not say, and was taken
};
// `context`: the longest text, of tokenizer_config.json; 0: not said. Fails where llama.cpp would not load it, either.
Result<HfTokenizer> hf_tokenizer_of(const GgufVocab& vocab, int64_t context = 0);

}  // namespace ingot
