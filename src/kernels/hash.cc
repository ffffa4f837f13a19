// XXH3-128 through libxxhash.
#include "kernels/hash.h"

#include <xxhash.h>

#include <utility>

namespace ingot {

Hash128 hash128(ByteView bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return {h.low64, h.high64};
}

std::string to_hex(const Hash128& h) {
  static const char kDigits[] = "0123456789abcdef";
  std::string s(32, '0');
  for (int i = 0; i < 16; ++i) {
    s[15 - i] = kDigits[h.hi >> (4 * i) & 15];
    s[31 - i] = kDigits[h.lo >> (4 * i) & 15];
  }
  return s;
}

std::optional<Hash128> hash128_from_hex(std::string_view s) {
  if (s.size() != 32) return std::nullopt;
  uint64_t v[2] = {0, 0};
  for (int i = 0; i < 32; ++i) {
    const char c = s[i];
    int d;
    if (c >= '0' && c <= '9')
      d = c - '0';
    else if (c >= 'a' && c <= 'f')
      d = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
      d = c - 'A' + 10;
    else
      return std::nullopt;
    v[i / 16] = v[i / 16] << 4 | static_cast<uint64_t>(d);
  }
  return Hash128{v[1], v[0]};
}

Hasher128::Hasher128() : state_(XXH3_createState()) {
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}
Hasher128::~Hasher128() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }
Hasher128::Hasher128(Hasher128&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
Hasher128& Hasher128::operator=(Hasher128&& o) noexcept {
  std::swap(state_, o.state_);
  return *this;
}
void Hasher128::update(ByteView bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}
Hash128 Hasher128::digest() const {
  const XXH128_hash_t h = XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_));
  return {h.low64, h.high64};
}

}  // namespace ingot
