// Pull evaluation of one region through a graph of nodes, with the intermediates in an arena. Where leaves, shared values and
// groups come from is the Provider's matter: the executor has them in budgeted buffers, evaluate() reads them directly.
#pragma once

#include <vector>

#include "exec/buffers.h"
#include "tensor/node.h"

namespace ingot {

class Provider {
 public:
  virtual ~Provider() = default;
  // Bytes of a leaf's region; may be gathered into the arena.
  virtual Result<View> leaf(const LeafNode& leaf, const Region& region, Arena& arena) = 0;
  // The value of a broadcast need.
  virtual Result<View> broadcast(const Need& need, Arena& arena) = 0;
  // A region of a group's output.
  virtual Result<View> group(const GroupOutput& output, const Region& region, Arena& arena) = 0;
};

class Evaluator {
 public:
  Evaluator(Provider& provider, const Facts& facts, Arena& arena) : provider_(provider), facts_(facts), arena_(arena) {}
  // The value of a region, written to `into` when given (else wherever it lies: a buffer or the arena).
  Result<View> eval(const Node& node, const Region& region, std::byte* into = nullptr);
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
  Provider& provider_;
  const Facts& facts_;
  Arena& arena_;
  std::vector<Known> memo_;  // a node that feeds several others is computed once a sub-tile
};

// A view of `region` inside a packed buffer that holds `held`; gathered into the arena unless contiguous.
View view_of(const std::byte* data, const Region& held, DType type, const Region& region, Arena& arena);

}  // namespace ingot
