// Building a double array: nodes in the order of a walk, children put where there is room in the youngest blocks.
#include "tokenizer/trie.h"

#include <algorithm>

namespace ingot {

class Trie::Builder {
 public:
  using Entries = std::vector<std::pair<std::string_view, int32_t>>;
  Builder(const Entries& entries, std::vector<Node>& nodes) : entries_(entries), nodes_(nodes) {}

  void run() {
    add_block();
    take(kRoot, kNone - 1);  // nobody's child
    std::vector<Part> open = {{kRoot, 0, static_cast<uint32_t>(entries_.size()), 0}};
    std::vector<Part> parts;
    while (!open.empty()) {
      Part part = open.back();
      open.pop_back();
      if (entries_[part.begin].first.size() == part.depth) nodes_[part.node].id = entries_[part.begin++].second;
      parts.clear();
      for (uint32_t i = part.begin; i < part.end;) {
        const uint8_t byte = byte_of(i, part.depth);
        uint32_t j = i;
        while (j < part.end && byte_of(j, part.depth) == byte) ++j;
        parts.push_back({byte, i, j, part.depth + 1});
        i = j;
      }
      if (parts.empty()) continue;
      const uint32_t base = place(parts);
      nodes_[part.node].base = base;
      for (Part& p : parts) {
        p.node ^= base;
        take(p.node, part.node);
      }
      open.insert(open.end(), parts.rbegin(), parts.rend());
    }
  }

 private:
  struct Part {
    uint32_t node, begin, end, depth;  // entries that lead through the node; its byte until it has a place
  };
  static constexpr uint32_t kBlock = 256, kOpenBlocks = 16, kTries = 64;

  uint8_t byte_of(uint32_t entry, uint32_t depth) const { return static_cast<uint8_t>(entries_[entry].first[depth]); }

  // Free places of the last blocks, in a ring.
  void add_block() {
    const auto first = static_cast<uint32_t>(nodes_.size());
    if (first >= kBlock * kOpenBlocks)
      for (uint32_t i = first - kBlock * kOpenBlocks, n = 0; n < kBlock; ++n, ++i)
        if (nodes_[i].parent == kNone) take_out(i);
    nodes_.resize(first + kBlock);
    next_.resize(nodes_.size());
    previous_.resize(nodes_.size());
    for (uint32_t i = first; i < first + kBlock; ++i) {
      if (head_ == kNone) {
        head_ = next_[i] = previous_[i] = i;
        continue;
      }
      const uint32_t tail = previous_[head_];
      next_[tail] = i, previous_[i] = tail, next_[i] = head_, previous_[head_] = i;
    }
  }
  void take_out(uint32_t i) {
    next_[previous_[i]] = next_[i];
    previous_[next_[i]] = previous_[i];
    if (head_ == i) head_ = next_[i] == i ? kNone : next_[i];
  }
  void take(uint32_t node, uint32_t parent) {
    take_out(node);
    nodes_[node].parent = parent;
  }
  // A base at which all of the bytes have a free place.
  uint32_t place(const std::vector<Part>& parts) {
    if (head_ != kNone) {
      // One child goes into the oldest gap, several where most is free.
      uint32_t at = parts.size() == 1 ? head_ : previous_[head_];
      for (uint32_t n = 0; n < kTries; ++n, at = previous_[at]) {
        const uint32_t base = at ^ parts[0].node;
        if (std::all_of(parts.begin(), parts.end(), [&](const Part& p) { return nodes_[base ^ p.node].parent == kNone; })) return base;
      }
    }
    add_block();
    return static_cast<uint32_t>(nodes_.size()) - kBlock;
  }

  const Entries& entries_;
  std::vector<Node>& nodes_;
  std::vector<uint32_t> next_, previous_;
  uint32_t head_ = kNone;
};

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  size_t kept = 0;
  for (size_t i = 0; i < entries.size(); ++i)
    if (!entries[i].first.empty() && (i + 1 == entries.size() || entries[i + 1].first != entries[i].first)) entries[kept++] = entries[i];
  entries.resize(kept);
  if (!entries.empty()) Builder(entries, nodes_).run();
}

}  // namespace ingot
