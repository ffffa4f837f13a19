// XXH3-128: the hash of a leaf, a tensor, a header. Not cryptographic.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace ingot {

struct Hash128 {
  uint64_t lo = 0, hi = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

Hash128 hash128(ByteView bytes);
// 32 lower-case digits, the high half first: the canonical form that xxhsum -H2 prints.
std::string to_hex(const Hash128& h);
// nullopt unless s is exactly 32 hexadecimal digits.
std::optional<Hash128> hash128_from_hex(std::string_view s);

// The same hash of bytes that arrive in pieces.
class Hasher128 {
 public:
  Hasher128();
  ~Hasher128();
  Hasher128(Hasher128&&) noexcept;
  Hasher128& operator=(Hasher128&&) noexcept;
  void update(ByteView bytes);
  Hash128 digest() const;

 private:
  void* state_;
};

}  // namespace ingot
