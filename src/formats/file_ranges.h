// Where the bytes of a tensor lie as they are: for whoever looks at files as they pass, from one end to the other, instead of reading tensor by tensor.
#pragma once

#include <memory>
#include <vector>

#include "storage/store.h"
#include "tensor/node.h"

namespace ingot {

struct FileRange {
  const ReadFile* file = nullptr;  // of a store; it lives as long as the node
  uint64_t offset = 0, size = 0;
};

// A file whose bytes lie in no file of a store as they are: they are unpacked, or computed.
class MadeFile : public ReadFile {};

// What a source is besides where its elements lie in files as they are: each once, in little-endian, row-major within a range.
class InFiles {
 public:
  virtual ~InFiles() = default;
  // Adds the ranges that hold all of its elements, in any order; false where these lie otherwise after all.
  virtual bool ranges(std::vector<FileRange>* out) const = 0;
};
// The same of any node: false of one that turns, packs, repeats or computes.
inline bool file_ranges(const Node& node, std::vector<FileRange>* out) {
  const auto* in_files = dynamic_cast<const InFiles*>(&node);
  return in_files && in_files->ranges(out);
}

// Bytes of a file that may stand for others (formats/file_pieces.h): where they lie in those. False where they lie in none as they are (MadeFile).
bool true_ranges(const ReadFile& file, uint64_t offset, uint64_t size, std::vector<FileRange>* out);

}  // namespace ingot
