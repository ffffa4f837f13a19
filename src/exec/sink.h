// SinkFile: one file of an output while it is written. Takes extents in any order, writes them as its store can, and hashes the file's bytes as they
// pass: fixed leaves (1 MiB), XXH3-128 each. With random writes every extent goes out at once and nothing is held; parts are assembled and go up whole, in
// any order; only a sequential file waits its turn. What a file holds back at most is found by the planner (Holdback) and is part of the budget.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "exec/checksums.h"
#include "exec/layout.h"
#include "kernels/hash.h"
#include "exec/uploads.h"
#include "storage/store.h"

namespace ingot {

class SinkFile {
 public:
  using OnLeaf = std::function<Status(uint64_t leaf, const Hash128&)>;

  // `on_leaf` is told of each leaf that is written whole. `uploads`: who brings parts away; null: whoever has one.
  SinkFile(const FileLayout& layout, Capabilities caps, uint64_t leaf_bytes, OnLeaf on_leaf, Uploads* uploads = nullptr);

  uint64_t leaves() const { return count_; }
  uint64_t leaf_size(uint64_t leaf) const;
  // Ownership of this rank: all leaves unless said otherwise. Those that late bytes reach are the work of one rank, `late`.
  void own(uint64_t first, uint64_t last, bool late) { own_first_ = first, own_last_ = last, own_late_ = late; }
  bool owns(uint64_t leaf) const { return late_.count(leaf) ? own_late_ : leaf >= own_first_ && leaf < own_last_; }
  bool late(uint64_t leaf) const { return late_.count(leaf) > 0; }
  bool has_late() const { return !late_.empty(); }

  // Opens `path`, checks the recorded leaves against the bytes there, and decides what is left to do. Of a file not begun yet that is a copy of `whole` (copies.h)
  // the blocks are shared, where the store can: what is then written is there already, and only hashed as it passes.
  Status open(Store& store, const std::string& path, bool resume, const std::map<uint64_t, Hash128>& recorded, const ReadFile* whole = nullptr);
  // Whether any byte of this extent is still to be written by this rank.
  bool pending(uint64_t offset, uint64_t bytes) const;
  uint64_t resumed_bytes() const { return resumed_bytes_; }
  bool owns_any() const { return own_first_ < own_last_ || (own_late_ && has_late()); }

  // Writes the fixed bytes and gaps that are pending (random access), then takes extents.
  Status start(const std::vector<std::pair<uint64_t, uint64_t>>& tensor_extents);
  Status write(uint64_t offset, ByteView bytes);
  // The late bytes, when everything else is there; of checksums those that other ranks have written to.
  Status write_late(const Digests& digests);
  // Everything owned is there, but for what late bytes reach before they came: flushes and syncs. An error names what is missing (a bug or another rank).
  // `synced` is false where the store could not make durable what it was given.
  Status finish(bool* synced);
  Status complete() { return file_ ? file_->complete() : Status(); }

  const std::vector<std::optional<Hash128>>& hashes() const { return hashes_; }
  void set_hash(uint64_t leaf, const Hash128& h) { hashes_[leaf] = h; }
  WriteFile* file() { return file_.get(); }
  const std::string& path() const { return path_; }
  uint64_t size() const { return layout_.size; }

 private:
  // A leaf that some of its bytes have reached: hashed up to `fed`; of the pieces that came early the hashes are kept, and the file has the bytes.
  struct Open {
    struct Piece {
      uint64_t size;
      Hash128 hash;
    };
    Hasher128 hasher;
    uint64_t fed = 0;
    std::map<uint64_t, Piece> later;
  };
  // A part that some of its bytes have reached.
  struct Block {
    std::string bytes;
    uint64_t left = 0;
  };
  struct Filler {
    uint64_t offset;
    std::string bytes;
  };

  void sum(uint64_t offset, ByteView bytes);
  Status write_extent(uint64_t offset, ByteView bytes);
  Status write_checksums();
  bool leaf_pending(uint64_t leaf) const { return owns(leaf) && !hashes_[leaf]; }
  Status write_random(uint64_t offset, ByteView bytes);
  Status write_parts(uint64_t offset, ByteView bytes);
  Status write_sequential(uint64_t offset, ByteView bytes);
  Status emit(ByteView bytes);
  Status feed(uint64_t offset, ByteView bytes);
  Result<std::optional<Hash128>> feed_part(uint64_t leaf, uint64_t at, ByteView part);
  Status put_part(uint64_t offset, ByteView bytes);
  Status upload(uint64_t offset, std::string part);
  Status record(const std::vector<std::pair<uint64_t, Hash128>>& leaves);
  // The fillers that end after `offset`, the first of them.
  std::vector<Filler>::const_iterator filler_at(uint64_t offset) const;

  const FileLayout& layout_;
  Capabilities caps_;
  uint64_t leaf_bytes_;
  OnLeaf on_leaf_;
  uint64_t count_;
  uint64_t own_first_ = 0, own_last_;
  bool own_late_ = true, late_written_ = false, shared_ = false;
  Checksums checksums_;
  std::set<uint64_t> late_;  // leaves
  std::string path_;
  std::unique_ptr<WriteFile> file_;
  uint64_t resumed_bytes_ = 0;

  mutable std::mutex mutex_;
  std::vector<std::optional<Hash128>> hashes_;
  std::map<uint64_t, Open> open_;
  Uploads* uploads_;
  uint64_t part_bytes_ = 0;
  std::map<uint64_t, Block> blocks_;  // by offset
  uint64_t next_ = 0;                 // of a sequential file: the byte whose turn it is
  std::map<uint64_t, std::string> waiting_;
  std::vector<Filler> fillers_;
};

// Bytes of a part for a file of this size; 0 where the store has no parts that fit.
uint64_t part_bytes(uint64_t file_size, const Capabilities& caps, uint64_t leaf_bytes);

// What a SinkFile holds back as extents come, for the planner: the same rules over sizes alone.
class Holdback {
 public:
  Holdback(const FileLayout& layout, const Capabilities& caps, uint64_t leaf_bytes);
  void add(uint64_t offset, uint64_t bytes) { extents_.emplace_back(offset, bytes); }  // of a tensor, or late
  void begin();
  // By how much the bytes held grow when this extent comes; *peak is what they grow to in between.
  int64_t come(uint64_t offset, uint64_t bytes, int64_t* peak);

 private:
  int64_t come_alone(uint64_t offset, uint64_t bytes, int64_t* peak);
  WriteMode mode_;
  uint64_t size_, part_;
  std::vector<std::pair<uint64_t, uint64_t>> extents_;
  // Ranges that are summed: tensor bytes that are yet to come, and where the sums go.
  struct Range {
    uint64_t begin, end, left;
    std::vector<uint64_t> places;
  };
  std::vector<Range> ranges_;
  // Parts: tensor bytes that are yet to come, of those that some have reached.
  std::map<uint64_t, uint64_t> open_;
  std::vector<uint64_t> tensor_bytes_;  // of each part
  // Sequential: the tensor whose bytes are next, how many of them are done, and what waits.
  size_t next_ = 0;
  uint64_t done_ = 0;
  std::map<uint64_t, uint64_t> waiting_;
};

}  // namespace ingot
