// XXH3-128: the hash of a leaf, a tensor, a header. Not cryptographic.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace ingot {

struct Hash128 {
  uint64_t lo = 0, hi = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

Hash128 hash128(ByteView bytes);
// 32 lower-case digits, the high half first: the canonical form that xxhsum -H2 prints.
std::string to_hex(const Hash128& h);

// The same hash of bytes that arrive in pieces.
class Hasher128 {
 public:
  Hasher128();
  ~Hasher128();
  Hasher128(const Hasher128&) = delete;
  Hasher128& operator=(const Hasher128&) = delete;
  void update(ByteView bytes);
  Hash128 digest() const;

 private:
  void* state_;
};

}  // namespace ingot
