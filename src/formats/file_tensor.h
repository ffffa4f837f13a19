// A tensor that lies in a file as contiguous row-major bytes: the source of every format whose data needs no decoding.
#pragma once

#include <memory>
#include <string>

#include "storage/store.h"
#include "tensor/node.h"

namespace ingot {

// One opened file, shared by the sources of its tensors.
struct SourceFile {
  std::shared_ptr<const ReadFile> file;
  std::string path;
  std::string header_hash;  // of the bytes that the tensor table was read from; part of every source's identity
};

// The reader has checked that [offset, offset + bytes_of(spec)) lies within the file.
NodePtr make_file_tensor(std::shared_ptr<const SourceFile> source, std::string name, uint64_t offset, TensorSpec spec);

}  // namespace ingot
