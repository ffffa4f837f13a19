// The search shared by types without a min: value = scale * q, q one of a set of numbers, scale of either sign (so that the larger end of a block can take the set's
// larger end). Include after lanes-inl.h.
//
// Numbers: nearest(); kFine, the relative step of scales in which few codes change.

// q from -kMax - 1 to kMax.
template <int kMax>
struct Uniform {
  static constexpr float kFine = 0.08f / kMax;
  static F32 nearest(F32 v) { return clamp(round(v), splat(static_cast<float>(-kMax - 1)), splat(static_cast<float>(kMax))); }
};

template <int kBlock, class Numbers, bool kWeighted>
struct Symmetric {
  F32 x[kBlock];
  F32 w[kWeighted ? kBlock : 1];
  F32 extreme;  // the value of largest magnitude
  F32 mass;     // what a block's error counts beside the others'

  static F32 code(F32 v) { return Numbers::nearest(v); }

  INGOT_NOINLINE void read(const float* values, const float* importance, float limit) {
    to_lanes<kBlock>(values, -limit, limit, x);
    mass = splat(1.0f);
    if constexpr (kWeighted) mass = importance_to_lanes<kBlock>(importance, w);
    F32 lo = x[0], hi = x[0];
    for (int k = 1; k < kBlock; ++k) {
      lo = min(lo, x[k]);
      hi = max(hi, x[k]);
    }
    extreme = select(hi < splat(0.0f) - lo, lo, hi);
  }

  struct Sums {
    F32 qq, qx;
  };
  template <int kN>
  INGOT_NOINLINE void assign(const F32* inv, Sums* out) const {
    F32 a[kN], qq[kN], qx[kN];  // copies: nothing here aliases, so they stay in registers
    for (int c = 0; c < kN; ++c) {
      a[c] = inv[c];
      qq[c] = qx[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 q = code(x[k] * a[c]);
        F32 wq = q;
        if constexpr (kWeighted) wq = w[k] * q;
        qq[c] = fma(wq, q, qq[c]);
        qx[c] = fma(wq, x[k], qx[c]);
      }
    for (int c = 0; c < kN; ++c) out[c] = {qq[c], qx[c]};
  }

  // The least-squares scale over candidates that map the extreme value to levels[c], then over the best one's
  // own codes. The gain is the energy explained: the most gain is the least error.
  template <int kCandidates>
  F32 search(const float (&levels)[kCandidates], Effort effort) const {
    constexpr int kN = 4;
    static_assert(kCandidates % kN == 0);
    const F32 unit = inverse_or_zero(extreme);
    F32 best = splat(0.0f), most = splat(0.0f), inv[kN];
    Sums s[kN];
    for (int first = 0; first < (effort == Effort::kFast ? kN : kCandidates); first += kN) {
      for (int c = 0; c < kN; ++c) inv[c] = unit * splat(levels[first + c]);
      assign<kN>(inv, s);
      for (int c = 0; c < kN; ++c) keep_better(s[c], &best, &most);
    }
    inv[0] = inverse_or_zero(best);
    assign<1>(inv, s);
    keep_better(s[0], &best, &most);
    if (effort == Effort::kBest) {
      constexpr float kAround[] = {-8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8};
      const F32 found = inverse_or_zero(best);
      for (int first = 0; first < 16; first += kN) {
        for (int c = 0; c < kN; ++c) inv[c] = found * splat(1.0f + Numbers::kFine * kAround[first + c]);
        assign<kN>(inv, s);
        for (int c = 0; c < kN; ++c) keep_better(s[c], &best, &most);
      }
    }
    return best;
  }

  static void keep_better(const Sums& s, F32* best, F32* most) {
    const Mask any = splat(0.0f) < s.qq;
    const F32 scale = s.qx / select(any, s.qq, splat(1.0f));
    const F32 gain = scale * s.qx;
    const Mask better = *most < gain;
    *most = select(better, gain, *most);
    *best = select(better, scale, *best);
  }

  // The error of kN stored scales, codes chosen for each.
  template <int kN>
  INGOT_NOINLINE void errors(const F32* stored, F32* err) const {
    F32 scale[kN], inv[kN], sum[kN];
    for (int c = 0; c < kN; ++c) {
      scale[c] = stored[c];
      inv[c] = inverse_or_zero(scale[c]);
      sum[c] = splat(0.0f);
    }
    for (int k = 0; k < kBlock; ++k)
      for (int c = 0; c < kN; ++c) {
        const F32 e = fnma(scale[c], code(x[k] * inv[c]), x[k]);
        F32 we = e;
        if constexpr (kWeighted) we = w[k] * e;
        sum[c] = fma(we, e, sum[c]);
      }
    for (int c = 0; c < kN; ++c) err[c] = sum[c];
  }
};

// Scales of sixteen blocks that each have their own f16: as they are stored, and the inverses of what is read.
struct Halves {
  uint16_t h[16];
  float inv[16];
};
inline Halves halves(F32 scale) {
  Halves out;
  store_f16(out.h, clamp(scale, splat(-65504.0f), splat(65504.0f)));
  store(out.inv, inverse_or_zero(load_f16(out.h)));
  return out;
}
