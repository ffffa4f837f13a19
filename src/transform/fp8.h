// FP8 weights with their scales, as F32.
#pragma once

#include "tensor/node.h"

namespace ingot::transform {

// F8_E4M3 (of the kind without infinities: 0x7F and 0xFF are NaN) and F8_E5M2 (as IEEE has it).
bool is_fp8(DType t);
float fp8_value(DType type, uint8_t code);

// value * scale, computed in f32, which holds every value of the two types. `weight` is of an FP8 type. `scale` has one number for each
// block of block_rows x block_cols elements of a matrix, row by row, the blocks at the end cut off; or one for all; or is null
// for 1. Its type is one that find_codec() knows, or F8_E8M0. `name` is the scale's, for messages.
NodePtr fp8_weight(NodePtr weight, NodePtr scale, int64_t block_rows, int64_t block_cols, std::string name);

}  // namespace ingot::transform
