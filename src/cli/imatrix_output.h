// The importance matrix that sources give as a file, known before they are run.
#pragma once

#include <string>

#include "calibrate/importance_file.h"
#include "cli/imatrix_sources.h"

namespace ingot::cli {

// What changes the sums beside the sources' own bytes.
Result<std::string> imatrix_key(const ImatrixArgs& args, const ImatrixSources& sources);
Result<calibrate::ImportanceFile> imatrix_file(const Context& context, const ImatrixArgs& args, const ImatrixSources& sources);
// What would be done, for --dry-run.
std::string imatrix_plan(const ImatrixSources& sources);
// The windows, for --json.
OrderedJson imatrix_json(const ImatrixSources& sources);
// How far the run went, and how fast.
std::string imatrix_run_text(const ImatrixSources& sources, int64_t resumed, double seconds);

}  // namespace ingot::cli
