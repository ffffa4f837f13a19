// Plan: the coarse tasks of a job in the order they are admitted, what outlives them, and the memory that all of it takes. Reads no data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "exec/tiles.h"

namespace ingot {

struct Plan {
  std::vector<Layout> layouts;     // of each output
  std::shared_ptr<Tiling> tiling;  // splits the tasks, and has the values
  std::vector<Task> tasks;
  int threads = 1;
  int readers = 1;              // reads at the same time
  int window = 1;               // tasks admitted and not finished, at most
  int uploads = 0;              // parts on their way at the same time
  uint64_t fixed_reserve = 0;   // arenas, what sinks hold back, the plan itself
  uint64_t floor = 0;           // the least budget
  uint64_t memory = 0;          // the budget
  uint64_t most_used = 0;       // what a run reserves of it at most
  uint64_t source_bytes = 0;
  uint64_t scratch_bytes = 0;
  uint64_t fine_tasks = 0;      // after splitting
  const std::vector<Value>& values() const { return tiling->values(); }
};

// `outputs` must outlive the plan. Errors: kUsage when the budget is below the floor.
Result<std::unique_ptr<Plan>> make_plan(const std::vector<Output>& outputs, const ExecOptions& options);

// The least budget with which make_plan succeeds.
Result<uint64_t> least_memory(const std::vector<Output>& outputs, const ExecOptions& options);

// Where a format puts the tensors of an output; one place for each.
Result<Layout> layout_of(const Output& output);

uint64_t default_memory();  // a quarter of what is free

}  // namespace ingot
