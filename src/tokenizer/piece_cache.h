// The ids of pieces seen before, for models that cut words. Direct-mapped: a new piece replaces the one in its slot. Slots are one
// cache line, so long pieces are not kept.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace ingot {

class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 24, kMaxIds = 8;
  struct alignas(64) Slot {
    uint8_t bytes = 0, ids = 0;
    char text[kMaxBytes];
    int32_t id[kMaxIds];

    bool holds(std::string_view piece) const { return bytes == piece.size() && std::memcmp(text, piece.data(), piece.size()) == 0; }
    void keep(std::string_view piece, const int32_t* found, size_t count) {
      if (count > kMaxIds) return;
      bytes = static_cast<uint8_t>(piece.size());
      ids = static_cast<uint8_t>(count);
      std::memcpy(text, piece.data(), piece.size());
      std::copy_n(found, count, id);  // of none there may be no address
    }
  };
  // Where a piece that is not empty is kept; null where it is too long for that.
  Slot* slot(std::string_view piece) {
    return piece.size() > kMaxBytes ? nullptr : &slots_[XXH3_64bits(piece.data(), piece.size()) & (kSlots - 1)];
  }

 private:
  static constexpr size_t kSlots = 1 << 14;
  std::vector<Slot> slots_{kSlots};
};

}  // namespace ingot
