// The header of one GGUF file: metadata and tensor infos, of version 2 and 3, little- and big-endian.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "formats/opened_file.h"
#include "tensor/artifact.h"

namespace ingot {

struct GgufInfo {
  std::string name;
  TensorSpec spec;
  uint64_t offset = 0;  // within the data
};

struct GgufHeader {
  std::vector<std::pair<std::string, MetaValue>> metadata;
  std::vector<GgufInfo> tensors;
  uint64_t alignment = 32, data = 0;  // where the data begins
  bool big_endian = false;            // and so are the numbers in the data
  std::string hash;                   // of what was read
};
// kBadInput says what is wrong with it, and where. That the data is there is not looked at.
Result<GgufHeader> read_gguf_header(const OpenedFile& opened);

}  // namespace ingot
