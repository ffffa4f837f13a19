// Casts between f32 and the 16-bit floats, and the search for values that are not finite.
#pragma once

#include <cstdint>

namespace ingot {

// Rounding is to nearest even; overflow gives infinity; a NaN stays a NaN (made quiet, sign and high payload
// kept).
void f32_to_f16(const float* x, int64_t n, uint16_t* out);
void f16_to_f32(const uint16_t* x, int64_t n, float* out);
void f32_to_bf16(const float* x, int64_t n, uint16_t* out);
void bf16_to_f32(const uint16_t* x, int64_t n, float* out);

// One value, for headers.
float float_from_f16(uint16_t h);

// The index of the first value whose magnitude is above `limit`, or that is NaN; -1 where there is none.
int64_t first_beyond(const float* x, int64_t n, float limit);
// The index of the first NaN or infinity, or -1.
int64_t first_nonfinite(const float* x, int64_t n);
// How many there are.
int64_t count_nonfinite(const float* x, int64_t n);

}  // namespace ingot
