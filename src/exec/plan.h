// Plan: the tasks of a job. Output tensors are cut into tiles (contiguous extents of their file); tiles that read the
// same source region are one task, so that each source byte is read once however many sinks there are. Tiles change
// with the budget; bytes do not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "exec/executor.h"

namespace ingot {

// A tile of one output tensor.
struct Piece {
  int output = 0, tensor = 0;
  Region region;
  int file = 0;
  uint64_t offset = 0, bytes = 0;
};

// Pieces with the same region of tensors cut alike: computed in step, sub-tile by sub-tile, sharing intermediates.
struct Lockstep {
  std::vector<int> pieces;       // indices into Task::pieces
  std::vector<Region> subtiles;  // in order; consecutive in each piece's bytes
};

struct LeafRead {
  std::shared_ptr<const LeafNode> leaf;
  Region region;
  uint64_t bytes = 0;
};

struct Task {
  std::vector<Piece> pieces;
  std::vector<Lockstep> groups;
  std::vector<LeafRead> reads;
  std::vector<int> shared;   // values needed beside the reads, those that others need first
  uint64_t buffers = 0;      // bytes of reads and pieces
  uint64_t workspace = 0;    // arena bytes of the largest sub-tile
};

// A value that many tasks need: a broadcast input, or the outputs of a group. Loaded by the first task that needs it, freed
// after the last; a group may be spilled to disk in between.
struct Shared {
  NodePtr node;    // broadcast value, or null
  Region region;   // of the broadcast value
  GroupPtr group;  // or a group
  uint64_t bytes = 0;    // kept
  uint64_t loading = 0;  // more, while it is made
  int first_task = -1, last_task = -1;
  bool spilled = false;
  uint64_t scratch_offset = 0;
};

struct PlannedOutput {
  std::vector<TensorSpec> specs;
  Layout layout;
};

struct Plan {
  std::vector<PlannedOutput> outputs;
  std::vector<Task> tasks;  // in the order they are admitted
  std::vector<Shared> shared;
  int threads = 1;
  int window = 1;               // tasks admitted and not finished, at most
  uint64_t fixed_reserve = 0;   // arenas, open leaves, reorder buffers
  uint64_t floor = 0;           // the least budget
  uint64_t memory = 0;          // the budget
  uint64_t most_used = 0;       // what a run reserves of it at most
  uint64_t source_bytes = 0;
  uint64_t scratch_bytes = 0;
};

// `facts` holds what run_stages made. Errors: kUsage when the budget is below the floor.
Result<Plan> make_plan(const std::vector<Output>& outputs, const Facts& facts, const ExecOptions& options);

// The least budget with which make_plan succeeds.
Result<uint64_t> least_memory(const std::vector<Output>& outputs, const Facts& facts, const ExecOptions& options);

// Cuts a row-major tensor into contiguous boxes of at most about `target` elements whose extents are multiples of `gran`.
std::vector<Region> cut_tiles(const Region& whole, const Shape& gran, int64_t target);

uint64_t default_memory();  // a quarter of what is free

}  // namespace ingot
