// Layout: where each tensor of an artifact lies in the files of one output. A format makes it from names and
// specs alone (before any data); the executor fills it in any order.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tensor/shape.h"

namespace ingot {

// For what is written last: the hash of a file of one of the job's outputs, which is complete, as 32 digits. Output and file by number.
using Digests = std::function<std::string(size_t output, size_t file)>;

// Bytes that are no tensor's: headers, indexes, side files. Gaps between these and tensors are filled with zeros.
struct Extent {
  uint64_t offset = 0;
  std::string bytes;
  // Made when everything else is there: as many bytes as `bytes`, which then only stand for them, and for what they depend on. Into a sequential file only at
  // its end. No digest may depend on it.
  std::function<Result<std::string>(const Digests&)> late = nullptr;
};

// Four bytes at `at`, little-endian: the CRC-32 of bytes [begin, end) of the same file, among them at least one of a tensor and none that are late or a checksum.
// Several may be of one range; two ranges do not overlap. Written as soon as the range is.
struct Checksum {
  uint64_t at = 0, begin = 0, end = 0;
};

struct FileLayout {
  std::string name;  // within the output directory; ignored for an output that is one file
  uint64_t size = 0;
  std::vector<Extent> extents = {};
  std::vector<Checksum> checksums = {};
  // A file of the same store that has these very bytes: where the store can, it gets a second name, and what comes is hashed, not written.
  std::string link = {};
};

struct Placement {
  int file = 0;
  uint64_t offset = 0;
};

struct Layout {
  std::vector<FileLayout> files;
  std::vector<Placement> tensors;  // one for each tensor of the artifact, in its order
};

using NamedSpec = std::pair<std::string, TensorSpec>;
// Called several times, with the same answer.
using LayoutFn = std::function<Result<Layout>(const std::vector<NamedSpec>&)>;

}  // namespace ingot
