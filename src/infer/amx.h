// Intel's AMX: tiles of sixteen rows of 64 bytes, and products of them. What the machine and the system let this process use, on the best target only.
#pragma once

#include <cstdint>

namespace ingot {

bool machine_has_bf16_tiles();
bool machine_has_int8_tiles();

// The operand of _tile_loadconfig: eight tiles.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};
};

// g++ is not told that the instructions which load tiles, and their configuration, read memory: what was stored for them is there after this.
inline void stored_for_tiles() { __asm__ volatile("" ::: "memory"); }

}  // namespace ingot
