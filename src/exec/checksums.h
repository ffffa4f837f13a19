// The CRC-32 of ranges of a file whose bytes come in any order: each piece is summed as it passes, and joined to its neighbours.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "exec/layout.h"

namespace ingot {

class Checksums {
 public:
  explicit Checksums(const std::vector<Checksum>& places);

  struct Piece {
    size_t range;
    uint64_t begin, end;
    uint32_t crc;
  };
  // Those of the bytes that lie within a range.
  std::vector<Piece> pieces(uint64_t offset, ByteView bytes) const;
  // Each byte once.
  void add(const std::vector<Piece>& pieces);
  // What has become known since: places, and the bytes to be written there.
  std::vector<std::pair<uint64_t, std::string>> take();
  // Bytes of ranges, from and to, that have not come.
  std::vector<std::pair<uint64_t, uint64_t>> missing() const;

 private:
  struct Range {
    uint64_t begin, end;
    std::vector<uint64_t> places;
    std::map<uint64_t, std::pair<uint64_t, uint32_t>> pieces;  // by begin: end, checksum; none touches another
  };
  mutable std::mutex mutex_;
  std::vector<Range> ranges_;  // in order
  std::vector<std::pair<uint64_t, std::string>> known_;
};

}  // namespace ingot
