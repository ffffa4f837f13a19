// Directories that look like models and are none: the Hugging Face cache, a folder of GGUF files.
#pragma once

#include "storage/store.h"

namespace ingot::cli {

// `given` itself; in a directory of GGUF files without other weights the model, if it is one only. An error that names what to give instead
// for several, and where it is a repository of the Hugging Face cache (models--ORG--NAME), its snapshots/, or the cache itself.
Result<Located> model_in_folder(const Located& given);

// The GGUF file in this directory whose name says the type, as llama.cpp means "org/model:Q4_K_M". kBadInput, which lists those that are there, for none or several.
Result<Located> gguf_of_type(const Located& directory, const std::string& type);

}  // namespace ingot::cli
