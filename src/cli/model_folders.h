// Directories that look like models and are none: the Hugging Face cache, a folder of GGUF files.
#pragma once

#include "storage/store.h"

namespace ingot::cli {

// An error that names what to give instead where `given` is a repository of the Hugging Face cache (models--ORG--NAME), its
// snapshots/, the cache itself, or a directory of GGUF files without a model of its own; else nothing.
Status check_model_folder(const Located& given);

}  // namespace ingot::cli
