// Names of GGUF types as users write them: of files ("q4_k" means the mix Q4_K_M, as in llama-quantize) and of single tensors.
// A type of the format that is not written yet is told apart from a misspelt one.
#pragma once

#include <string>
#include <vector>

#include "cli/reporter.h"
#include "tensor/types.h"

namespace ingot::cli {

// The canonical name of a file type: from any case, an alias or a number of llama-quantize (a notice says what those mean).
Result<std::string> read_type(Reporter& report, const std::string& name);
// "Q4_K_M,F16" -> canonical names.
Result<std::vector<std::string>> read_types(Reporter& report, const std::string& text);

// Whether a word is meant for a type, or several: of files, written or not, by name or alias; of several words with commas, by number too.
bool names_type(const std::string& word);
bool names_types(const std::string& text);
// Whether it looks like one, but is none ("Q4KM", "q8", "8bit", "float16"); the error for it, with the type that must have been meant.
bool like_a_type(const std::string& word);
Status no_type(const std::string& word);

// The type of one tensor, for --tensor-type and its like.
Result<DType> read_element_type(const std::string& option, const std::string& name);

}  // namespace ingot::cli
