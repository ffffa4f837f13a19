// Reading back what was written, leaf by leaf, and comparing it with the hashes of what was computed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/status.h"
#include "kernels/hash.h"

namespace ingot {

struct LeavesToVerify {
  std::string path;  // as the user knows it, for messages
  std::function<Status(uint64_t offset, MutByteView out)> read;
  uint64_t size = 0;  // of the file
  std::vector<std::optional<Hash128>> hashes;  // of all its leaves
  uint64_t first = 0, last = 0;                // the leaves to be read
};

struct VerifyRun {
  int threads = 1;
  uint64_t leaf_bytes = 1 << 20;
  CancelToken* cancel = nullptr;
  std::function<void(uint64_t bytes, const std::string& file)> progress;  // may be empty
};

// kFailed names the first bytes that differ.
Status verify_leaves(const std::vector<LeavesToVerify>& files, const VerifyRun& run);

}  // namespace ingot
