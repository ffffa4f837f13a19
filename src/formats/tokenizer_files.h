// A tokenizer without a model: the files that describe it, alone.
#pragma once

#include <optional>
#include <string>

#include "storage/store.h"
#include "tensor/artifact.h"

namespace ingot {

// Of a directory that has such files and no weights, or of the file tokenizer.json, tekken.json or tokenizer.model, which then counts before those
// beside it. Nothing where the path is another thing.
Result<std::optional<Artifact>> open_tokenizer_files(Store& store, const std::string& path);

}  // namespace ingot
