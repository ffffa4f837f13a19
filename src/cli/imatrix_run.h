// The run of 'ingot imatrix': windows through the model, kept beside the output on the way.
#pragma once

#include "calibrate/collect.h"
#include "cli/imatrix_sources.h"
#include "commit/progress_file.h"

namespace ingot::cli {

struct ImatrixRun {
  calibrate::Collected got;
  int64_t resumed = 0;  // windows, by an earlier run
  double seconds = 0;
};
// Goes on from what an unfinished run has left in `kept`. kInterrupted says how far it came, which is kept.
Result<ImatrixRun> run_windows(Context& context, const ImatrixArgs& args, const ImatrixSources& sources, ProgressFile* kept);

// Tensors and experts that too few tokens came to: a warning, and all of them for --json.
OrderedJson warn_few(Context& context, const transform::ImportanceSums& sums);

}  // namespace ingot::cli
