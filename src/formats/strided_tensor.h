// A tensor that lies in a file as a strided view (a transposed matrix, each second row, a value expanded), or whose bytes need turning on the way: of torch's files.
#pragma once

#include "formats/file_tensor.h"

namespace ingot {

struct StridedView {
  uint64_t offset = 0;                      // bytes, of the element whose indices are all 0
  TensorSpec spec;                          // of a type without blocks
  std::array<int64_t, kMaxDims> strides{};  // in elements, none negative
  bool swap = false;                        // big-endian
  bool negate = false;                      // all values change their sign
  bool conjugate = false;                   // imaginary parts do: of complex numbers, or where pairs of them are the last dimension
  bool contiguous() const;                  // and as it stands
  // Elements from the first to the last that it looks at, that one included; 0 of an empty one. False: overflow.
  bool reach(uint64_t* elements) const;
};

// The reader has checked that reach() elements lie within the file.
NodePtr make_strided_tensor(std::shared_ptr<const SourceFile> source, std::string name, const StridedView& view);

}  // namespace ingot
