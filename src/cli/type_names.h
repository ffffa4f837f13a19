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
// The type that a word which is none must have been meant for ("Q4KM"); empty where it does not look like one.
std::string nearest_type(const std::string& word);

// The type of one tensor, for --tensor-type and its like.
Result<DType> read_element_type(const std::string& option, const std::string& name);

}  // namespace ingot::cli
