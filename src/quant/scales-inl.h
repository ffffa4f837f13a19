// Super-blocks without a min: value = d * scale * q, d an f16 for the super-block, scale an integer for each of its kLanes blocks. Sixteen blocks are sixteen lanes,
// of one super-block or several. Include after lanes-inl.h.
//
// A type K: kLanes; its scales, from kLow to kHigh in steps of kStep; kParts, as what is stored is d * kParts; kLevels, candidates for the q of a block's largest value;
// kRounds, as coarse scales and their unit move each other. The blocks are a Symmetric, or what has the same members.

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

// A unit as it will be read.
template <class K>
inline float stored_unit(float d, uint16_t* half = nullptr) {
  return round_f16(max_of(min_of(d * static_cast<float>(K::kParts), 65504.0f), -65504.0f), half) * (1.0f / static_cast<float>(K::kParts));
}

template <class K>
struct Scales {
  static constexpr int kSupers = 16 / K::kLanes;
  float d[kSupers];  // the values of the f16, divided by kParts
  F32 scale;
  F32 lanes() const {
    float out[16];
    for (int i = 0; i < 16; ++i) out[i] = d[i / K::kLanes];
    return load(out);
  }
  // The f16 of super-block s.
  void put(int s, uint8_t* out) const {
    uint16_t h;
    stored_unit<K>(d[s], &h);
    std::memcpy(out, &h, 2);
  }
};

// The unit such that the scale of largest magnitude takes the largest code: kLow where scales have signs, the one code without a positive twin.
template <class K>
inline float unit(const float* s) {
  constexpr float kMost = static_cast<float>(K::kLow < 0 ? K::kLow : K::kHigh), kLeast = 0x1p-24f / static_cast<float>(K::kParts);
  // The magnitude is kept apart from the value: clang 19 at -O3 miscompiles `if (fabs(s[i]) > fabs(most))
  // most = s[i]` (found by the golden bytes of codec_test.cc).
  float most = 0, magnitude = 0;
  for (int i = 0; i < K::kLanes; ++i) {
    const float m = __builtin_fabsf(s[i]);
    if (!(m > magnitude)) continue;
    magnitude = m;
    most = s[i];
  }
  const float d = stored_unit<K>(most / kMost);
  if (d == 0.0f && magnitude >= kLeast / 2) return (most > 0) == (kMost > 0) ? kLeast : -kLeast;
  return d;
}

// The code nearest to a scale in units.
template <class K>
inline F32 scale_code(F32 v) {
  const F32 low = splat(static_cast<float>(K::kLow));
  return clamp(fma(round((v - low) * splat(1.0f / K::kStep)), splat(static_cast<float>(K::kStep)), low), low, splat(static_cast<float>(K::kHigh)));
}

// Chooses the scales for the units in g, then the units for them.
template <class K, class Fit>
inline void fit_units(const Fit& blocks, F32 exact, Scales<K>* of) {
  constexpr int kN = 3, kSupers = Scales<K>::kSupers;
  Scales<K>& g = *of;
  const F32 d = g.lanes(), lo = splat(static_cast<float>(K::kLow)), hi = splat(static_cast<float>(K::kHigh));
  const F32 nearest = scale_code<K>(exact * inverse_or_zero(d));
  F32 cand[kN], stored[kN], err[kN];
  for (int c = 0; c < kN; ++c) {
    cand[c] = clamp(nearest + splat(static_cast<float>((c - 1) * K::kStep)), lo, hi);
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
    if (!(fit[s] >= -65504.0 / K::kParts && fit[s] <= 65504.0 / K::kParts) || fit[s] == 0) continue;
    refitted.d[s] = stored_unit<K>(static_cast<float>(fit[s]));
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

// The error of each super-block.
template <class K, class Fit>
inline void errors_of(const Fit& blocks, const Scales<K>& g, double* out) {
  const F32 stored = g.scale * g.lanes();
  F32 err;
  blocks.template errors<1>(&stored, &err);
  totals<K::kLanes>(blocks.mass * err, out);
}

// Other units, as factors of the one that gives the largest scale its place.
constexpr float kUnitsBeside[] = {0.93f, 0.965f, 1.035f, 1.07f};

// Sixteen blocks.
template <class K, class Fit>
inline Scales<K> fit_scales(const Fit& blocks, Effort effort) {
  constexpr int kSupers = Scales<K>::kSupers;
  const F32 exact = blocks.search(K::kLevels, effort);
  float s[16];
  store(s, exact);
  Scales<K> first;
  for (int i = 0; i < kSupers; ++i) first.d[i] = unit<K>(s + i * K::kLanes);
  first.scale = splat(0.0f);
  const int rounds = effort == Effort::kFast ? 1 : K::kRounds;
  Scales<K> g = first;
  for (int round = 0; round < rounds; ++round) fit_units<K>(blocks, exact, &g);
  if (effort != Effort::kBest) return g;
  double least[kSupers];
  errors_of<K>(blocks, g, least);
  for (const float factor : kUnitsBeside) {
    Scales<K> other = first;
    for (float& d : other.d) d = stored_unit<K>(d * factor);
    for (int round = 0; round < rounds; ++round) fit_units<K>(blocks, exact, &other);
    double err[kSupers];
    errors_of<K>(blocks, other, err);
    float best[16], scale[16];
    store(best, g.scale);
    store(scale, other.scale);
    for (int i = 0; i < kSupers; ++i) {
      if (!(err[i] < least[i])) continue;
      least[i] = err[i];
      g.d[i] = other.d[i];
      std::memcpy(best + i * K::kLanes, scale + i * K::kLanes, K::kLanes * sizeof(float));
    }
    g.scale = load(best);
  }
  return g;
}
