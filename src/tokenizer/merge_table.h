// Pairs of symbols that merge into one, by rank: the work of every byte pair encoding. Of equal ranks the leftmost pair is first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ingot {

class MergeTable {
 public:
  struct Pair {
    uint64_t key = ~0ull;  // left << 32 | right
    uint32_t rank = 0;
    int32_t id = -1;
  };
  // What one call needs for itself.
  struct Scratch {
    struct Symbol {
      int32_t id, previous, next;
      uint32_t version;
    };
    struct Candidate {
      uint32_t rank;
      int32_t at, id;
      uint32_t left_version, right_version;
      bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
    };
    std::vector<int32_t> symbols;
    std::vector<const Pair*> pairs;
    std::vector<Symbol> chain;
    std::vector<Candidate> heap;
  };

  explicit MergeTable(size_t pairs = 0);  // at most so many are added
  // Of a pair that is added twice the last counts, or the first.
  void add(int32_t left, int32_t right, uint32_t rank, int32_t id, bool first_counts = false);
  const Pair* find(int32_t left, int32_t right) const;
  // Merges scratch.symbols until no pair of neighbours is in the table.
  void merge(Scratch& scratch) const;

 private:
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;
  std::vector<Pair> pairs_;  // open addressing
  int shift_ = 0;            // 64 - log2 of pairs_.size()
};

// The pairs of neighbouring characters across which some merge reaches: between any others a text may be cut, and its parts be
// merged each for itself.
class Joints {
 public:
  void add(char32_t before, char32_t after);
  bool joined(char32_t before, char32_t after) const {
    if (before < 128 && after < 128) return (ascii_[before][after >> 6] >> (after & 63) & 1) != 0;
    return find(static_cast<uint64_t>(before) << 32 | after);
  }

 private:
  bool find(uint64_t key) const;
  uint64_t ascii_[128][2] = {};
  std::vector<uint64_t> table_;  // open addressing; 0 is empty
  size_t size_ = 0;
};

}  // namespace ingot
