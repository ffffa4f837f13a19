// PackedMatrix: quantized weights laid out for int8 products (to come). See multiply_packed.
#pragma once
namespace ingot {
struct PackedMatrix {};
}  // namespace ingot
