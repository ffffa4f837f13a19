// Super-blocks without a min: value = d * scale * q, d an f16 for the super-block, scale an integer from -kTop - 1 to kTop for each of its kLanes blocks. Sixteen
// blocks are sixteen lanes, of one super-block or several. Include after symmetric-inl.h.
//
// A type K: kBlock values a block, kLanes, kTop, Numbers (what q may be), kLevels (candidates for the q of a block's largest value), kRounds (coarse scales and
// their unit move each other).

// Lane i / kLanes of out: the sum in f64 of that super-block's lanes.
template <int kLanes>
inline void totals(F32 v, double* out) {
  float lanes[16];
  store(lanes, v);
  for (int s = 0; s < 16 / kLanes; ++s) {
    out[s] = 0;
    for (int i = 0; i < kLanes; ++i) out[s] += lanes[s * kLanes + i];
  }
}

template <class K>
struct Scales {
  static constexpr int kSupers = 16 / K::kLanes;
  float d[kSupers];  // the values of the f16
  F32 scale;         // integers -kTop - 1 .. kTop
  F32 lanes() const {
    float out[16];
    for (int i = 0; i < 16; ++i) out[i] = d[i / K::kLanes];
    return load(out);
  }
};

// The unit such that the scale of largest magnitude takes -kTop - 1, the one code without a positive twin.
template <class K>
inline float unit(const float* s) {
  // The magnitude is kept apart from the value: clang 19 at -O3 miscompiles `if (fabs(s[i]) > fabs(most))
  // most = s[i]` (found by the golden bytes of codec_test.cc).
  float most = 0, magnitude = 0;
  for (int i = 0; i < K::kLanes; ++i) {
    const float m = __builtin_fabsf(s[i]);
    if (!(m > magnitude)) continue;
    magnitude = m;
    most = s[i];
  }
  const float d = round_f16(max_of(min_of(most / static_cast<float>(-K::kTop - 1), 65504.0f), -65504.0f));
  if (d == 0.0f && magnitude >= 0x1p-25f) return most > 0 ? -0x1p-24f : 0x1p-24f;
  return d;
}

// Chooses the scales for the units in g, then the units for them.
template <class K, class Fit>
inline void fit_units(const Fit& blocks, F32 exact, Scales<K>* of) {
  constexpr int kN = 3, kSupers = Scales<K>::kSupers;
  Scales<K>& g = *of;
  const F32 d = g.lanes(), lo = splat(static_cast<float>(-K::kTop - 1)), hi = splat(static_cast<float>(K::kTop));
  const F32 nearest = clamp(round(exact * inverse_or_zero(d)), lo, hi);
  F32 cand[kN], stored[kN], err[kN];
  for (int c = 0; c < kN; ++c) {
    cand[c] = clamp(nearest + splat(static_cast<float>(c - 1)), lo, hi);
    stored[c] = cand[c] * d;
  }
  blocks.template errors<kN>(stored, err);
  g.scale = cand[1];
  F32 least = err[1];
  for (int c = 0; c < kN; c += 2) {
    const Mask better = err[c] < least;
    g.scale = select(better, cand[c], g.scale);
    least = select(better, err[c], least);
  }
  // Least squares for d given all codes; kept where the error is really less, as it is rounded and codes
  // change.
  const F32 inv = inverse_or_zero(g.scale * d);
  typename Fit::Sums sums;
  blocks.template assign<1>(&inv, &sums);
  double energy[kSupers], fit[kSupers], before[kSupers], after[kSupers];
  totals<K::kLanes>(blocks.mass * g.scale * g.scale * sums.qq, energy);
  totals<K::kLanes>(blocks.mass * g.scale * sums.qx, fit);
  Scales<K> refitted = g;
  bool any = false;
  for (int s = 0; s < kSupers; ++s) {
    fit[s] /= energy[s] > 0 ? energy[s] : 1;
    if (!(fit[s] >= -65504 && fit[s] <= 65504) || fit[s] == 0) continue;
    refitted.d[s] = round_f16(static_cast<float>(fit[s]));
    any = true;
  }
  if (!any) return;
  const F32 stored_refitted = g.scale * refitted.lanes();
  F32 err_refitted;
  blocks.template errors<1>(&stored_refitted, &err_refitted);
  totals<K::kLanes>(blocks.mass * err_refitted, after);
  totals<K::kLanes>(blocks.mass * least, before);
  for (int s = 0; s < kSupers; ++s)
    if (after[s] < before[s]) g.d[s] = refitted.d[s];
}

// Sixteen blocks at src; importance beside, or null.
template <class K, bool kWeighted>
inline Scales<K> fit_scales(const float* src, const float* importance, float limit) {
  using Fit = Symmetric<K::kBlock, typename K::Numbers, kWeighted>;
  Fit blocks;
  blocks.read(src, importance, limit);
  const F32 exact = blocks.search(K::kLevels);
  float s[16];
  store(s, exact);
  Scales<K> g;
  for (int i = 0; i < Scales<K>::kSupers; ++i) g.d[i] = unit<K>(s + i * K::kLanes);
  g.scale = splat(0.0f);
  for (int round = 0; round < K::kRounds; ++round) fit_units<K>(blocks, exact, &g);
  return g;
}
