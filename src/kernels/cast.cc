// Casts f32 <-> f16, bf16 and the finite check. Tails go through a padded copy, so that each lane operation
// is the only definition of its conversion.
#include "kernels/cast.h"

#include <cstring>
#include <limits>

#define INGOT_TARGET_FILE "kernels/cast.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

struct ToF16 {
  using In = float;
  using Out = uint16_t;
  static void step(const In* x, Out* out) { store_f16(out, load(x)); }
};
struct FromF16 {
  using In = uint16_t;
  using Out = float;
  static void step(const In* x, Out* out) { store(out, load_f16(x)); }
};
struct ToBf16 {
  using In = float;
  using Out = uint16_t;
  static void step(const In* x, Out* out) {
    const F32 f = load(x);
    const I32 u = bits(f);
    const I32 rounded = shr<16>(u + splat_i(0x7fff) + (shr<16>(u) & splat_i(1)));
    store_u16(out, select(is_nan(f), shr<16>(u) | splat_i(0x40), rounded));
  }
};
struct FromBf16 {
  using In = uint16_t;
  using Out = float;
  static void step(const In* x, Out* out) { store(out, from_bits(shl<16>(load_u16(x)))); }
};

template <class Step>
void cast(const typename Step::In* x, int64_t n, typename Step::Out* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) Step::step(x + i, out + i);
  if (i == n) return;
  typename Step::In a[16] = {};
  typename Step::Out b[16];
  std::memcpy(a, x + i, static_cast<size_t>(n - i) * sizeof a[0]);
  Step::step(a, b);
  std::memcpy(out + i, b, static_cast<size_t>(n - i) * sizeof b[0]);
}

void to_f16(const float* x, int64_t n, uint16_t* out) { cast<ToF16>(x, n, out); }
void from_f16(const uint16_t* x, int64_t n, float* out) { cast<FromF16>(x, n, out); }
void to_bf16(const float* x, int64_t n, uint16_t* out) { cast<ToBf16>(x, n, out); }
void from_bf16(const uint16_t* x, int64_t n, float* out) { cast<FromBf16>(x, n, out); }

inline uint32_t lanes_beyond(const float* x, F32 limit) {
  const F32 v = load(x);
  return to_bits(is_nan(v)) | to_bits(abs(v) > limit);
}

int64_t find_beyond(const float* x, int64_t n, float limit) {
  const F32 most = splat(limit);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    if (const uint32_t m = lanes_beyond(x + i, most)) return i + __builtin_ctz(m);
  if (i == n) return -1;
  float a[16] = {};
  std::memcpy(a, x + i, static_cast<size_t>(n - i) * 4);
  const uint32_t m = lanes_beyond(a, most);
  return m ? i + __builtin_ctz(m) : -1;
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {

void f32_to_f16(const float* x, int64_t n, uint16_t* out) { INGOT_DISPATCH(to_f16)(x, n, out); }
void f16_to_f32(const uint16_t* x, int64_t n, float* out) { INGOT_DISPATCH(from_f16)(x, n, out); }
void f32_to_bf16(const float* x, int64_t n, uint16_t* out) { INGOT_DISPATCH(to_bf16)(x, n, out); }
void bf16_to_f32(const uint16_t* x, int64_t n, float* out) { INGOT_DISPATCH(from_bf16)(x, n, out); }
int64_t first_beyond(const float* x, int64_t n, float limit) { return INGOT_DISPATCH(find_beyond)(x, n, limit); }
int64_t first_nonfinite(const float* x, int64_t n) { return first_beyond(x, n, std::numeric_limits<float>::max()); }

int64_t count_nonfinite(const float* x, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0;;) {
    const int64_t j = first_nonfinite(x + i, n - i);
    if (j < 0) return count;
    ++count;
    i += j + 1;
  }
}

float float_from_f16(uint16_t h) { return scalar::f32_from_f16(h); }

}  // namespace ingot
#endif
