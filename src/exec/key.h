// What a job is: the key under which it is resumed, and the files it reads.
#pragma once

#include <string>
#include <vector>

#include "exec/executor.h"

namespace ingot {

// The same key makes the same bytes. Everything that reaches a file goes in: the graphs down to the identities of the sources, names of
// tensors, the layout, metadata, seed. Not the paths, nor threads, memory or ranks.
Result<std::string> job_key(const std::vector<Output>& outputs, const ExecOptions& options);

// Every file that the outputs are read from, each once.
std::vector<const ReadFile*> sources_of(const std::vector<Output>& outputs);
// A hash of how these files looked when they were opened, ctime included: what the key may not depend on.
std::string sources_stamp(const std::vector<const ReadFile*>& sources);

}  // namespace ingot
