// Reading back what was written, leaf by leaf, and comparing it with the hashes of what was computed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/status.h"
#include "commit/destination.h"
#include "kernels/hash.h"

namespace ingot {

struct LeavesToVerify {
  std::string path;  // as the user knows it, for messages
  std::function<Status(uint64_t offset, MutByteView out)> read;
  uint64_t size = 0;  // of the file
  std::vector<std::optional<Hash128>> hashes;  // of all its leaves
  std::vector<uint64_t> leaves;                // those to be read
};

struct VerifyRun {
  int threads = 1;
  uint64_t leaf_bytes = kLeafBytes;
  CancelToken* cancel = nullptr;
  std::function<void(uint64_t bytes, const std::string& file)> progress;  // may be empty
  // Of hash_tree: what else looks at the bytes of a file while they pass, leaf by leaf, from several threads at a time; null for a file that it has no interest in.
  // Its error ends the reading.
  using Look = std::function<Status(uint64_t offset, ByteView bytes)>;
  std::function<Look(const ReadFile& file)> look = nullptr;
};

// The root of a tree of leaf hashes: the hash of all of them, file after file in the order of their names.
std::string root_of(const std::map<std::string, std::vector<std::optional<Hash128>>>& files);

// The same of one file whose bytes arrive in order.
class TreeHasher {
 public:
  void update(ByteView bytes);
  std::string root();

 private:
  void end_leaf();
  std::unique_ptr<Hasher128> leaf_ = std::make_unique<Hasher128>();
  uint64_t in_leaf_ = 0;
  std::vector<std::optional<Hash128>> leaves_;
};

// The root of what lies at `path`, a file or a directory, and its bytes; read by `run.threads` threads. Errors: kBadInput for nothing there.
struct TreeHash {
  std::string root;
  uint64_t bytes = 0;
};
Result<TreeHash> hash_tree(Store& store, const std::string& path, const VerifyRun& run);

// kFailed names the first bytes that differ.
Status verify_leaves(const std::vector<LeavesToVerify>& files, const VerifyRun& run);

}  // namespace ingot
