// A tensor that lies in chunks, boxes of it in one file or many: what the ranks of a run saved of it. A region is read from the chunks that it meets, straight
// into its place where a chunk's part is one run there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/node.h"

namespace ingot {

struct TensorChunk {
  Region region;  // of the tensor; not empty
  std::shared_ptr<const Source> source;  // of the region's shape
};

// What is wrong with boxes that should fill a shape, each element once, and all lie within it: "element [3, 0] lies in no chunk". Empty: nothing. In n log n
// steps, whatever the boxes are.
std::string why_not_filled(const Shape& shape, const std::vector<Region>& boxes);

// The chunks fill the shape. `files` stands for all that they are read from. One chunk that is all of it is its own source.
NodePtr make_chunked_tensor(std::string name, const TensorSpec& spec, std::vector<TensorChunk> chunks, std::shared_ptr<const ReadFile> files);

}  // namespace ingot
