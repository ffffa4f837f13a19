// SinkFile: one file of an output while it is written. Takes extents in any order, writes them as its store can, and hashes the
// file's bytes as they pass: fixed leaves (1 MiB), XXH3-128 each, so that a leaf is known when its last byte came.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "exec/layout.h"
#include "kernels/hash.h"
#include "storage/store.h"

namespace ingot {

class SinkFile {
 public:
  using OnLeaf = std::function<Status(uint64_t leaf, const Hash128&)>;

  // `known`: leaf hashes that an earlier run recorded. Leaves outside [first, last) belong to other ranks.
  SinkFile(const FileLayout& layout, Capabilities caps, uint64_t leaf_bytes, OnLeaf on_leaf);

  uint64_t leaves() const { return count_; }
  uint64_t leaf_size(uint64_t leaf) const;
  // Ownership of this rank; all leaves unless said otherwise.
  void own(uint64_t first, uint64_t last) { own_first_ = first, own_last_ = last; }

  // Opens `path`, checks the recorded leaves against the bytes there, and decides what is left to do.
  Status open(Store& store, const std::string& path, bool resume, const std::map<uint64_t, Hash128>& recorded);
  // Opens a file that another rank wrote, to verify and complete it.
  Status attach(Store& store, const std::string& path);
  // Whether any byte of this extent is still to be written by this rank.
  bool pending(uint64_t offset, uint64_t bytes) const;
  uint64_t resumed_bytes() const { return resumed_bytes_; }
  std::pair<uint64_t, uint64_t> owned() const { return {own_first_, own_last_}; }
  bool owns_any() const { return own_first_ < own_last_; }

  // Writes the fixed bytes and gaps that are pending (random access), then takes extents.
  Status start(const std::vector<std::pair<uint64_t, uint64_t>>& tensor_extents);
  Status write(uint64_t offset, ByteView bytes);
  // Everything owned is there: flushes and syncs. An error names what is missing (a bug or another rank).
  // `synced` is false where the store could not make durable what it was given.
  Status finish(bool* synced);
  Status complete() { return file_ ? file_->complete() : Status(); }

  const std::vector<std::optional<Hash128>>& hashes() const { return hashes_; }
  void set_hash(uint64_t leaf, const Hash128& h) { hashes_[leaf] = h; }
  WriteFile* file() { return file_.get(); }
  const std::string& path() const { return path_; }
  uint64_t size() const { return layout_.size; }

 private:
  // A leaf that some of its bytes have reached: hashed up to `fed`, later pieces wait.
  struct Open {
    Hasher128 hasher;
    uint64_t fed = 0;
    std::map<uint64_t, std::string> waiting;
  };
  struct Filler {
    uint64_t offset;
    std::string bytes;
  };

  bool leaf_pending(uint64_t leaf) const { return leaf >= own_first_ && leaf < own_last_ && !hashes_[leaf]; }
  Status write_random(uint64_t offset, ByteView bytes);
  Status write_ordered(uint64_t offset, ByteView bytes);
  Status emit(ByteView bytes);
  Status flush_part();
  Status feed(uint64_t offset, ByteView bytes);
  std::optional<Hash128> feed_part(uint64_t leaf, uint64_t at, ByteView part);

  const FileLayout& layout_;
  Capabilities caps_;
  uint64_t leaf_bytes_;
  OnLeaf on_leaf_;
  uint64_t count_;
  uint64_t own_first_ = 0, own_last_;
  std::string path_;
  std::unique_ptr<WriteFile> file_;
  uint64_t resumed_bytes_ = 0;

  mutable std::mutex mutex_;
  std::vector<std::optional<Hash128>> hashes_;
  std::map<uint64_t, Open> open_;
  // Ordered stores only.
  uint64_t next_ = 0;       // offset of the next byte to emit
  uint64_t written_ = 0;    // bytes given to the store
  uint64_t part_bytes_ = 0;
  std::string part_;
  std::map<uint64_t, std::string> waiting_;
  std::vector<Filler> fillers_;
};

}  // namespace ingot
