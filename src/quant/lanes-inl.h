// Shared by the block codecs, inside a target's namespace (no include guard: once for each target). Sixteen
// blocks are worked on at a time, one in each lane: sums over a block never cross lanes, so they have the
// same order on every target, and a search over candidate scales costs the same few instructions for sixteen
// blocks.

inline F32 clamp(F32 x, F32 lo, F32 hi) { return min(max(x, lo), hi); }

// Sixteen consecutive blocks of kBlock values at x; lane i of t[k] is value k of block i, clamped to lo .. hi
// (a NaN becomes lo: garbage given is garbage stored, but nothing downstream meets it).
template <int kBlock>
inline void to_lanes(const float* x, float lo, float hi, F32* t) {
  for (int k = 0; k < kBlock; k += 16) {
    F32 r[16];
    for (int i = 0; i < 16; ++i) r[i] = load(x + i * kBlock + k);
    transpose(r);
    for (int i = 0; i < 16; ++i) t[k + i] = clamp(r[i], splat(lo), splat(hi));
  }
}

// 1 / x where |x| is large enough for that to be finite, else 0.
inline F32 inverse_or_zero(F32 x) {
  const F32 one = splat(1.0f);
  const Mask some = splat(1e-37f) < abs(x);
  return select(some, one / select(some, x, one), splat(0.0f));
}

// The importance of sixteen blocks: lane i of w[k] is the weight of value k of block i, scaled to a mean of
// about 1 within the block; returned is that mean. A block without any weight counts all its values alike;
// elsewhere a value of no weight still counts a thousandth of the mean, so that its error stays bounded.
template <int kBlock>
inline F32 importance_to_lanes(const float* importance, F32* w) {
  to_lanes<kBlock>(importance, 0.0f, 1e30f, w);
  F32 sum = splat(0.0f);
  for (int k = 0; k < kBlock; ++k) sum = sum + w[k];
  const F32 mean = sum * splat(1.0f / kBlock);
  const F32 scale = inverse_or_zero(mean);
  const F32 floor = select(splat(0.0f) < scale, splat(1.0f / 1024), splat(1.0f));
  for (int k = 0; k < kBlock; ++k) w[k] = fma(w[k], scale, floor);
  return mean;
}

inline float min_of(float a, float b) { return a < b ? a : b; }
inline float max_of(float a, float b) { return a > b ? a : b; }

// v rounded to f16 and back; *half, if wanted, gets the f16.
inline float round_f16(float v, uint16_t* half = nullptr) {
  float in[16] = {v}, out[16];
  uint16_t h[16];
  store_f16(h, load(in));
  store(out, load_f16(h));
  if (half) *half = h[0];
  return out[0];
}
