// The pipeline that runs a plan's tasks: one thread admits them in order under the budget, a small I/O pool reads their sources
// ahead, compute threads evaluate and write. A task holds all that it will need before it starts, so nothing waits
// for memory while it holds some.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/plan.h"
#include "exec/sink.h"

namespace ingot {

struct PipelineContext {
  const std::vector<Output>& outputs;
  const Plan& plan;
  const Facts& facts;
  CancelToken* cancel = nullptr;
  // sinks[output][file]
  std::vector<std::vector<std::unique_ptr<SinkFile>>>& sinks;
  WriteFile* scratch = nullptr;  // for spilled groups
  std::function<void(uint64_t bytes, const std::string& tensor)> progress;
  std::atomic<uint64_t>& source_bytes;
  std::atomic<uint64_t>& written_bytes;
  std::atomic<uint64_t>& tasks_run;
};

// Runs every task that has a pending byte. The first error stops the rest.
Status run_pipeline(const PipelineContext& context);

}  // namespace ingot
