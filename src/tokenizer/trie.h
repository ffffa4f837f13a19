// A set of texts with an id each, walked byte by byte: a double array.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ingot {

class Trie {
 public:
  Trie() = default;
  // Empty texts are left out; of equal ones the last id counts.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> entries);

  static constexpr uint32_t kRoot = 0, kNone = ~0u;
  // The node behind `node` and `byte`, or kNone.
  uint32_t step(uint32_t node, char byte) const {
    if (nodes_.empty()) return kNone;
    const uint32_t child = nodes_[node].base ^ static_cast<uint8_t>(byte);
    return nodes_[child].parent == node ? child : kNone;
  }
  // The id of the text that leads to `node`, or -1.
  int32_t id(uint32_t node) const { return nodes_[node].id; }
  uint32_t walk(std::string_view text, uint32_t node = kRoot) const {
    for (size_t i = 0; i < text.size() && node != kNone; ++i) node = step(node, text[i]);
    return node;
  }

 private:
  struct Node {
    uint32_t base = 0;        // children are at base ^ byte, in one block of 256
    uint32_t parent = kNone;  // kNone: free
    int32_t id = -1;
  };
  class Builder;
  std::vector<Node> nodes_;
};

}  // namespace ingot
