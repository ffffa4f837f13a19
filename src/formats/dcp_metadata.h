// `.metadata` of torch.distributed.checkpoint: a pickle of torch.distributed.checkpoint.metadata.Metadata, as plain rows. What every chunk of a tensor is, and in
// which bytes of which file it lies; of other values only where they lie.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/state_tree.h"
#include "tensor/shape.h"

namespace ingot {

inline constexpr char kDcpMetadata[] = ".metadata";

// Bytes of one file. A length of a file that does not say is 0.
struct DcpPlace {
  size_t file = 0;  // of DcpMetadata::files
  uint64_t offset = 0, length = 0;
};

struct DcpChunk {
  Region region;
  DcpPlace place;
};

struct DcpEntry {
  std::string key;   // as it is stored: "model.emb.weight"
  std::string path;  // keys and positions of the nested state: "model/emb.weight"; the key where the file does not tell
  bool tensor = false;
  bool deep = false;  // the path has several parts
  TensorSpec spec;
  std::vector<DcpChunk> chunks;  // not empty ones, each region once
  DcpPlace place;                // of what is no tensor
};

struct DcpMetadata {
  std::vector<std::string> files;  // relative paths, none of which leads out of the directory
  std::vector<DcpEntry> entries;
  StateKinds kinds;  // of the containers that the paths lead through
  std::string hash;  // of the file
};

// What paths tell of the kind of the container at `path`, whose members have positions or texts.
std::string dcp_kind(const std::string& path, bool positions);

// Chunks that do not fill their tensor, entries without a place and data that are compressed are errors.
Result<DcpMetadata> parse_dcp_metadata(std::string bytes, const std::string& path);

}  // namespace ingot
