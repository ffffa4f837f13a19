// The run of 'ingot imatrix': windows through the model, kept beside the output on the way.
#pragma once

#include <memory>
#include <vector>

#include "cli/imatrix_sources.h"
#include "commit/progress_file.h"
#include "exec/executor.h"
#include "formats/json.h"

namespace ingot::cli {

struct ImatrixRun {
  int64_t resumed = 0;  // windows, by an earlier run
  double seconds = 0;
};
// Before the job of these outputs, which is not done yet, and which *kept is to be released for: the sums of the windows are added to those of the sources. What is computed is kept
// beside the first output until *kept is removed, and gone on from. kInterrupted says how far it came. Tensors and experts that too few tokens came to: a warning, and the member "few"
// of *told.
Result<ImatrixRun> run_windows(Context& context, const ImatrixArgs& args, const std::vector<Output>& outputs, ImatrixSources* sources, std::unique_ptr<ProgressFile>* kept, OrderedJson* told);
// kUsage where --memory does not hold the least that works.
Status check_run_memory(const Context& context, const ImatrixArgs& args, const ImatrixSources& sources);
// Killed between the outputs' publishing and the end, a run leaves what it kept beside them.
void remove_left(const std::vector<Output>& outputs);

}  // namespace ingot::cli
