// CRC-32 as zip, gzip and PNG have it (ISO 3309: polynomial 0xEDB88320 reflected, begun and ended inverted).
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace ingot {

// Of `bytes` after those whose checksum is `before` (0: of none).
uint32_t crc32(ByteView bytes, uint32_t before = 0);
// Of the bytes of `a` and then those of `b`, of which there are `size`: pieces may be summed in any order.
uint32_t crc32_joined(uint32_t a, uint32_t b, uint64_t size);

}  // namespace ingot
