// The search shared by types with a min: value = scale * q - min, q from 0 to kMax, scale never negative. kFreeMin: min may be of either sign; else it is never
// negative, as in the K types. Sixteen blocks of kBlock values, one in each lane. Include after lanes-inl.h.

// What a block is stored as, one in each lane: value = scale * q - min.
struct Affine {
  F32 scale, min;
};

// The sums of one assignment of codes to a block, in each lane; y is the value less the block's mean.
struct Sums {
  F32 q, qq, qy;  // of w q, w q^2, w q y
};

// A candidate range: code 0 .. kMax + level of the whole range, moved up by shift.
struct Range {
  float level, shift;
};

// Chosen greedily from some hundred (level, shift) pairs: each the one that lowers most the mean least error over
// blocks of the tiny Llama's weights and of gaussian and student-t values, given those before it.
template <int kMax>
struct Ranges;
template <>
struct Ranges<3> {
  static constexpr Range kAll[] = {{0.75f, -0.375f}, {0.75f, -0.125f}, {0.5f, -0.5f},  {1.0f, 0.0f},    {0.0f, 0.125f},  {0.75f, -0.5f}, {0.25f, -0.5f}, {1.0f, -0.375f},
                                   {0.0f, 0.0f},     {-0.75f, -0.125f}, {0.5f, 0.125f}, {1.0f, -0.5f}, {0.0f, -0.125f}, {1.0f, 0.125f}, {1.0f, -0.125f}, {0.0f, 0.25f}};
};
template <>
struct Ranges<15> {
  static constexpr Range kAll[] = {{0.25f, -0.125f}, {0.25f, -0.375f}, {0.25f, 0.125f}, {-0.75f, -0.125f},
                                   {0.5f, -0.375f},  {0.25f, 0.0f},    {0.25f, 0.25f},  {0.25f, -0.5f},
                                   {-0.25f, 0.0f},   {-1.0f, -0.25f},  {-0.75f, 0.0f},  {-1.75f, -0.125f}};
};
template <>
struct Ranges<31> {
  static constexpr Range kAll[] = {{0.25f, -0.125f},  {-0.75f, -0.125f}, {0.25f, -0.375f}, {0.25f, 0.125f},
                                   {-1.75f, -0.125f}, {-0.25f, 0.0f},    {-1.0f, -0.125f}, {-1.0f, 0.125f},
                                   {-0.25f, 0.25f},   {-2.75f, -0.125f}, {-2.0f, -0.125f}, {-2.0f, 0.125f}};
};

// Sixteen blocks and what can be asked of them.
template <int kBlock, int kMax, bool kWeighted, bool kFreeMin = false>
struct AffineBlocks {
  F32 x[kBlock];                       // values
  F32 y[kBlock];                       // values less the (weighted) mean
  F32 w[kWeighted ? kBlock : 1];       // weights
  F32 total, inv_total, mean, wmean2;  // sum of weights, its inverse, mean of x, total * mean^2
  F32 lo, hi;                          // range of the values, and of 0 where the min is not free
  F32 mass;                            // what a block's error counts beside the others'

  static F32 code(F32 v) { return clamp(round(v), splat(0.0f), splat(static_cast<float>(kMax))); }

  INGOT_NOINLINE void read(const float* values, const float* importance, float limit) {
    to_lanes<kBlock>(values, -limit, limit, x);
    mass = splat(1.0f);
    if constexpr (kWeighted) mass = importance_to_lanes<kBlock>(importance, w);
    F32 sum = splat(0.0f), weights = splat(0.0f);
    lo = hi = kFreeMin ? x[0] : splat(0.0f);
    for (int k = 0; k < kBlock; ++k) {
      lo = min(lo, x[k]);
      hi = max(hi, x[k]);
      if constexpr (kWeighted) {
        sum = fma(w[k], x[k], sum);
        weights = weights + w[k];
      } else {
        sum = sum + x[k];
      }
    }
    total = kWeighted ? weights : splat(static_cast<float>(kBlock));
    inv_total = splat(1.0f) / total;
    mean = sum * inv_total;
    wmean2 = total * mean * mean;
    for (int k = 0; k < kBlock; ++k) y[k] = x[k] - mean;
  }

  // The sums for codes round(x * inv + offset), of kN candidates at once.
  template <int kN>
  INGOT_NOINLINE void assign(const F32* inv, const F32* offset, Sums* out) const {
    F32 a[kN], b[kN], q1[kN], qq[kN], qy[kN];  // copies: nothing here aliases, so they stay in registers
    for (int c = 0; c < kN; ++c) {
      a[c] = inv[c];
      b[c] = offset[c];
      q1[c] = qq[c] = qy[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 q = code(fma(x[k], a[c], b[c]));
        F32 wq = q;
        if constexpr (kWeighted) wq = w[k] * q;
        q1[c] = q1[c] + wq;
        qq[c] = fma(wq, q, qq[c]);
        qy[c] = fma(wq, y[k], qy[c]);
      }
    for (int c = 0; c < kN; ++c) out[c] = {q1[c], qq[c], qy[c]};
  }

  // Least squares for scale and min given the codes. *gain is how much of the energy of y they explain: the
  // most gain is the least error, with no second pass over the values. A min is never negative: where it
  // would be, the best scale without one.
  Affine solve(const Sums& s, F32* gain) const {
    const F32 zero = splat(0.0f), one = splat(1.0f);
    const F32 variance = fnma(s.q * inv_total, s.q, s.qq);
    const Mask flat = variance < fma(s.qq, splat(1e-5f), splat(1e-30f));
    const F32 slope = select(flat, zero, s.qy / select(flat, one, variance));
    const F32 m = fma(slope, s.q * inv_total, zero - mean);
    if constexpr (kFreeMin) {
      const Mask up = zero < slope;
      *gain = select(up, slope * s.qy, zero);
      return {select(up, slope, zero), select(up, m, zero - mean)};
    }
    const F32 qx = fma(mean, s.q, s.qy);
    const F32 slope0 = max(zero, qx / select(zero < s.qq, s.qq, one));
    const Mask no_min = m < zero, rising = zero < slope;
    *gain = select(no_min, slope0 * qx - wmean2, select(rising, slope * s.qy, zero));
    return {select(no_min, slope0, max(zero, slope)), select(no_min, zero, m)};
  }

  // The fit before scale and min are rounded: a few ranges, then the best one's codes and fit once more.
  INGOT_NOINLINE Affine search(Effort effort) const {
    constexpr int kN = 4;
    constexpr int kRanges = sizeof Ranges<kMax>::kAll / sizeof(Range);
    static_assert(kRanges % kN == 0);
    const F32 zero = splat(0.0f), unit = inverse_or_zero(hi - lo);
    F32 most = splat(-3e38f), inv[kN], offset[kN];
    Affine best{zero, zero};
    Sums s[kN];
    const auto keep_better = [&](const Sums& sums) __attribute__((always_inline)) {
      F32 gain;
      const Affine a = solve(sums, &gain);
      const Mask better = most < gain;
      most = select(better, gain, most);
      best.scale = select(better, a.scale, best.scale);
      best.min = select(better, a.min, best.min);
    };
    for (int first = 0; first < (effort == Effort::kFast ? kN : kRanges); first += kN) {
      for (int c = 0; c < kN; ++c) {
        const Range r = Ranges<kMax>::kAll[first + c];
        inv[c] = splat(kMax + r.level) * unit;
        offset[c] = fnma(lo, inv[c], splat(r.shift));
      }
      assign<kN>(inv, offset, s);
      for (int c = 0; c < kN; ++c) keep_better(s[c]);
    }
    inv[0] = inverse_or_zero(best.scale);
    offset[0] = best.min * inv[0];
    assign<1>(inv, offset, s);
    keep_better(s[0]);
    if (effort == Effort::kBest) {
      constexpr float kScales[] = {-2, -1, 0, 1, 2}, kShifts[kN] = {-0.3f, -0.1f, 0.1f, 0.3f};
      const F32 per = inverse_or_zero(best.scale), at = best.min * per;
      for (const float scale : kScales) {
        const F32 factor = splat(1.0f + scale * (0.16f / kMax));
        for (int c = 0; c < kN; ++c) inv[c] = per * factor, offset[c] = fma(at, factor, splat(kShifts[c]));
        assign<kN>(inv, offset, s);
        for (int c = 0; c < kN; ++c) keep_better(s[c]);
      }
    }
    return best;
  }

  // The error of kN stored forms, codes chosen for each.
  template <int kN>
  INGOT_NOINLINE void errors(const Affine* stored, F32* err) const {
    F32 scale[kN], m[kN], inv[kN], sum[kN];
    for (int c = 0; c < kN; ++c) {
      scale[c] = stored[c].scale;
      m[c] = stored[c].min;
      inv[c] = inverse_or_zero(scale[c]);
      sum[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 v = x[k] + m[c];
        const F32 e = fnma(scale[c], code(v * inv[c]), v);
        F32 we = e;
        if constexpr (kWeighted) we = w[k] * e;
        sum[c] = fma(we, e, sum[c]);
      }
    for (int c = 0; c < kN; ++c) err[c] = sum[c];
  }
};

