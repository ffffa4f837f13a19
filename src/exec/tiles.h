// Tiles: how the tensors of a job are cut into work. Output tensors are cut into contiguous extents of their file; tiles that read the same region of a
// source are one task, so that each source byte is read once however many outputs there are. A plan holds coarse tasks (millions of
// elements), so that it stays small for any model and budget; each is split into those that run when its turn comes. Bytes do not depend on any of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "exec/executor.h"

namespace ingot {

// A row-major box cut into contiguous boxes of at most about `target` elements whose extents are multiples of `gran`, in order.
class Cuts {
 public:
  Cuts(const Region& whole, const Shape& gran, int64_t target);
  int64_t size() const { return prefixes_ * steps_; }
  Region operator[](int64_t i) const;

 private:
  Region whole_;
  int dim_ = 0;  // the one that is cut; those before it go one by one
  int64_t prefixes_ = 1, steps_ = 1, step_ = 0;
};

// An extent of an output's tensor, or of a value.
struct Tile {
  static constexpr int kValue = -1;
  int output = 0;  // or kValue
  int tensor = 0;  // of the output, or the value's number
  Region region;
  int file = 0;
  uint64_t offset = 0, bytes = 0;  // in the file, or in the value
};

// Tiles of one region of tensors that are cut alike: computed in step, sub-tile by sub-tile, sharing intermediates.
struct Lockstep {
  std::vector<int> tiles;  // of the task
  Cuts subtiles;
};

struct Read {
  std::shared_ptr<const Source> source;
  Region region;
  uint64_t bytes = 0;
};

// What is admitted at once. A coarse one has the tiles or runs of all its fine ones, and the most that one of them takes.
struct Task {
  std::vector<Tile> tiles;
  int makes = -1;             // a value
  int64_t run = 0, runs = 0;  // of the fold that makes it
  std::vector<int> values;    // that it needs
  uint64_t buffers = 0;       // bytes of reads, tiles and state
  uint64_t workspace = 0;     // arena bytes of the largest sub-tile
  // Of fine ones only.
  std::vector<Read> reads;
  std::vector<Lockstep> locksteps;
};

// What outlives a task: a broadcast need, or the outputs of a fold. Made by tasks of their own, placed just before the first that needs it, freed
// after the last; the outputs of a fold may be spilled in between.
struct Value {
  NodePtr node;    // of a broadcast need, or null
  Region region;
  FoldPtr fold;    // or a fold
  std::string key; // of a fact: a fold small enough for the journal
  uint64_t bytes = 0;
  uint64_t state = 0;  // more, while it is made
  int64_t runs = 0;
  int first_task = -1, last_maker = -1, last_task = -1;  // coarse ones, from its first maker to its last user
  bool needed_whole = false;  // by a broadcast need: not spilled
  bool spilled = false;
  uint64_t scratch_offset = 0;
};

class Tiling {
 public:
  Tiling(const std::vector<Output>& outputs, const std::vector<Layout>& layouts);

  // Fine tasks of about `target` elements from now on; no value is known yet. `merge`: tiles that share a source region, but not its bounds, become one
  // task too.
  void begin(int64_t target, bool merge);
  // Of all tensors, in the order of what they write first; neither values nor sizes are known.
  std::vector<Task> coarse();
  // The coarse tasks that make a value.
  std::vector<Task> makers(int value);
  // In the order in which they run.
  std::vector<Task> split(const Task& coarse);

  const std::vector<Value>& values() const { return values_; }
  std::vector<Value>& values() { return values_; }
  // Whether any two tiles shared a task since begin().
  bool merged() const { return merged_; }
  int64_t largest() const;  // elements of the largest tensor

 private:
  struct Tensor {
    NodePtr node;
    Shape shape, gran;
  };
  // What a region of a node reads, needs kept, and takes of the arena.
  struct Footprint {
    std::vector<Read> reads;
    std::vector<int>* values = nullptr;  // null: not asked for
    uint64_t arena = 0;
  };
  void align_granularity();
  static std::vector<Tile> cut(const Tile& whole, DType type, const Shape& gran, int64_t target);
  const Tensor& tensor(const Tile& t) const { return tensors_[first_[t.output] + t.tensor]; }
  int value_of(const Need& need);
  void add_need(const Need& need, Footprint& f);
  void footprint(const NodePtr& node, const Region& region, Footprint& f);
  std::vector<Task> group(std::vector<Tile> tiles, bool fine);
  std::vector<Task> split_maker(const Task& coarse);
  void measure(Task& task);

  const std::vector<Output>& outputs_;
  const std::vector<Layout>& layouts_;
  std::vector<Tensor> tensors_;  // of all outputs, one after another
  std::vector<int> first_;
  int64_t target_ = 1, coarse_target_ = 1;
  bool merge_ = true, merged_ = false;
  std::vector<Value> values_;
  std::unordered_map<std::string, int> ids_;
};

}  // namespace ingot
