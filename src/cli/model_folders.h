// Directories that look like models and are none: the Hugging Face cache, a folder of GGUF files.
#pragma once

#include "storage/store.h"

namespace ingot::cli {

// `given` itself; in a directory of GGUF files without other weights the model, if it is one only. An error that names what to give instead
// for several, and where it is a repository of the Hugging Face cache (models--ORG--NAME), its snapshots/, or the cache itself.
Result<Located> model_in_folder(const Located& given);

}  // namespace ingot::cli
