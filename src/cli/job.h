// One job of the executor as the command line runs it: options from the common ones, progress shown, the plan
// printed instead for --dry-run, the result as a table and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "exec/executor.h"
#include "formats/json.h"
#include "transform/provenance.h"

namespace ingot::cli {

// The common options as the executor has them, with progress and notices shown.
ExecOptions exec_options(Context& context);

// What else --dry-run prints: before the files, and as members beside those of the plan.
struct PlanDetails {
  std::string text;
  OrderedJson json = OrderedJson::object();
};
// kFailed for a file that this process may not write (ulimit -f).
Status check_size_limit(const PlanReport& plan);
// Runs the job with progress shown; with `provenance`, which may be null, the manifests in the outputs are completed. No report: --dry-run,
// whose plan was printed.
Result<std::optional<ExecReport>> run_reported(Context& context, const std::vector<Output>& outputs,
                                               const transform::Provenance* provenance, const PlanDetails& details = {});

// The hashes of a model's tensors, by a job that writes nothing; its journal lies in the user's cache, so that a run that was killed is gone
// on with. `verb` ("hashing") stands in the bar. No hashes: --dry-run, or a process that leaves the work to the first of several.
struct ContentHashes {
  std::string exact, value;
  transform::ContentHash::Roots roots;  // for those of the tensors
};
Result<std::optional<ContentHashes>> hash_reported(Context& context, const transform::ContentHash& what, const char* verb);

// Elements of all tensors, and bits each takes.
struct Totals {
  uint64_t tensors = 0, elements = 0, bytes = 0;
  double bits_per_weight() const {
    return elements ? static_cast<double>(bytes) * 8 / static_cast<double>(elements) : 0;
  }
};
Totals totals_of(const Artifact& artifact);

// The files that were written, for people and for --json.
std::string report_text(const std::vector<Output>& outputs, const ExecReport& report);
OrderedJson report_json(const std::vector<Output>& outputs, const ExecReport& report);

}  // namespace ingot::cli
