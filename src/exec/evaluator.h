// Pull evaluation of one region through a graph of nodes, with the intermediates in an arena. Where sources and values come from is
// the Provider's matter: the pipeline has them in budgeted buffers, evaluate() reads them directly.
#pragma once

#include <vector>

#include "exec/buffers.h"
#include "exec/tiles.h"
#include "tensor/node.h"

namespace ingot {

class Provider {
 public:
  virtual ~Provider() = default;
  // Bytes of a source's region; may be gathered into the arena.
  virtual Result<View> source(const Source& source, const Region& region, Arena& arena) = 0;
  // What outlives a task: a broadcast need, or a region of a fold's output.
  virtual Result<View> value(const Node& node, const Region& region, Arena& arena) = 0;
};

class Evaluator {
 public:
  Evaluator(Provider& provider, Arena& arena) : provider_(provider), arena_(arena) {}
  // The value of a region, written to `into` when given (else wherever it lies: a buffer or the arena).
  Result<View> eval(const Node& node, const Region& region, std::byte* into = nullptr);
  // Feeds one run of a fold (of chunk() elements a chunk, or whole) into `state`.
  Status add(const Fold& fold, const Region& run, MutByteView state);
  // Forgets the values of this sub-tile and frees their memory.
  void next() {
    memo_.clear();
    arena_.reset();
  }

 private:
  struct Known {
    const Node* node;
    View view;
  };
  Result<View> get(const Need& need) {
    return need.broadcast ? provider_.value(*need.node, need.region, arena_) : eval(*need.node, need.region);
  }
  Provider& provider_;
  Arena& arena_;
  std::vector<Known> memo_;  // a node that feeds several others is computed once a sub-tile
};

// The runs of a fold, and the chunks of one. One run of one chunk where the inputs are needed whole.
Cuts fold_runs(const Fold& fold);
Cuts fold_chunks(const Fold& fold, const Region& run);

// A view of `region` inside a packed buffer that holds `held`; gathered into the arena unless contiguous.
View view_of(const std::byte* data, const Region& held, DType type, const Region& region, Arena& arena);

}  // namespace ingot
