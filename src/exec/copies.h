// Outputs that are copies of their inputs: nothing would be converted, and blocks can be shared instead of written.
#pragma once

#include "exec/executor.h"
#include "exec/layout.h"

namespace ingot {

// The file that each file of a layout would equal byte for byte: every tensor lies there at the same place, and so does what is around them. Null where there is
// none, or it could not be told. Of these files only what is no tensor's is read.
std::vector<const ReadFile*> copied_files(const Artifact& artifact, const Layout& layout);

// The files that those of an output would equal, in its order: of those with tensors inputs, of the others files of `directory` by their names. Empty unless all would.
Result<std::vector<std::string>> copied_files(const Output& output, Store& store, const std::string& directory);

}  // namespace ingot
