// The pipeline that runs a plan's tasks: one thread admits them in order under the budget, a small I/O pool reads their sources ahead, compute threads evaluate
// and write; where the system refuses threads, the one does it all. A task holds all that it will need before it starts, so nothing waits for memory while
// it holds some. Workers take tasks in the order of admission, so whoever waits for a value waits for tasks that have begun.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "exec/plan.h"
#include "exec/sink.h"

namespace ingot {

struct PipelineContext {
  const std::vector<Output>& outputs;
  Plan& plan;
  CancelToken* cancel = nullptr;
  // sinks[output][file]; empty where the tensors of the only output go to `memory`, one view each.
  std::vector<std::vector<std::unique_ptr<SinkFile>>>& sinks;
  const std::vector<MutByteView>& memory;
  WriteFile* scratch = nullptr;  // for spilled values
  const std::map<std::string, std::string>& facts;  // made by an earlier run, by key
  std::function<Status(const std::string& key, const std::string& bytes)> fact;  // one that was made now
  std::function<void(uint64_t bytes, const std::string& tensor)> progress;
  std::atomic<uint64_t>& source_bytes;
  std::atomic<uint64_t>& written_bytes;
  std::atomic<uint64_t>& tasks_run;
};

// Runs every task that has a pending byte, and makes the values that those need. The first error stops the rest.
Status run_pipeline(const PipelineContext& context);

}  // namespace ingot
