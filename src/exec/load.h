// Load: tensors evaluated into memory that the caller has, by the same pipeline as a job: threads, read-ahead, a budget for what is needed beside.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "exec/executor.h"

namespace ingot {

// into[i] gets the packed bytes of tensors[i]; what is a source's is read straight into place. Of the options: threads, memory, cancel, on_progress (bytes
// of the tensors), and tile_elements. With `journal_path` the facts made on the way are kept beside it ("PATH.facts", in `journal_store`), and a later call
// with the same path takes them instead of making them: that is how a job whose sizes or types data decide is two, this one and the one that is planned with what it found.
// That job, given the same path, removes them when it is done. Of two callers at a time one records. Errors: as run_job; kUsage where a view has not the tensor's size.
Status load(const TensorList& tensors, const std::vector<MutByteView>& into, const ExecOptions& options);

}  // namespace ingot
