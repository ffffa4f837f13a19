// Blocks whose magnitudes are codewords (grids.h), signs beside, times a scale that is not negative: sixteen blocks, one in each lane, and what scales-inl.h asks of
// them. Include after scales-inl.h.
//
// A grid G: kValues of a word and kBits of each, kLevels of them, levels (by the three lowest bits of what is left of a word), kSlope and kOffset (a line that takes a level to
// its digit), near().

struct Word {
  I32 entry;  // of near_words.h
  F32 error;
};

// The word for the values b, weighted with w (or not: null): the one of least error among those around the point of free levels that is nearest.
template <class G, bool kWeighted, int kMost = kNearWords>
inline Word nearest_word(const F32* b, const F32* w, const uint32_t* near) {
  F32 point = splat(0.0f);
  for (int k = G::kValues - 1; k >= 0; --k)
    point = fma(point, splat(static_cast<float>(G::kLevels)), clamp(round(fma(b[k], splat(G::kSlope), splat(G::kOffset))), splat(0.0f), splat(static_cast<float>(G::kLevels - 1))));
  const I32 first = to_int(point * splat(static_cast<float>(kNearWords)));
  Word best{splat_i(0), splat(0.0f)};
  for (int n = 0; n < kMost; ++n) {
    const I32 entry = gather(near + n, first);
    I32 rest = entry;
    F32 err = splat(0.0f);
    for (int k = 0; k < G::kValues; ++k) {
      const F32 e = b[k] - lookup8(G::levels, rest);
      F32 we = e;
      if constexpr (kWeighted) we = w[k] * e;
      err = fma(we, e, err);
      rest = shr<G::kBits>(rest);
    }
    if (n == 0) {
      best = {entry, err};
      continue;
    }
    const Mask better = err < best.error;
    best.entry = select(better, entry, best.entry);
    best.error = select(better, err, best.error);
  }
  return best;
}

// The least-squares scale over candidates that map the largest value to levels[c], then over the best one's own words.
template <class Blocks, int kCandidates>
inline F32 best_scale(const Blocks& blocks, F32 most, const float (&levels)[kCandidates], Effort effort) {
  const F32 unit = inverse_or_zero(most);
  F32 best = splat(0.0f), gain = splat(0.0f);
  const auto attempt = [&](F32 inv) {
    typename Blocks::Sums s;
    blocks.template assign<1>(&inv, &s);
    const F32 scale = max(s.qx / s.qq, splat(0.0f)), explained = scale * s.qx;
    const Mask better = gain < explained;
    gain = select(better, explained, gain);
    best = select(better, scale, best);
  };
  for (int c = 0; c < kCandidates; c += effort == Effort::kFast ? 2 : 1) attempt(unit * splat(levels[c]));
  attempt(inverse_or_zero(best));
  if (effort == Effort::kBest) {
    const F32 found = inverse_or_zero(best);
    for (const float factor : {0.91f, 0.94f, 0.97f, 1.03f, 1.06f, 1.09f}) attempt(found * splat(factor));
  }
  return best;
}

// kEven: of eight signs seven are stored, and their product is positive.
template <class G, int kBlock, bool kEven, bool kWeighted>
struct Coded {
  static constexpr int kWords = kBlock / G::kValues;
  F32 a[kBlock];  // magnitudes; a value whose sign cannot be stored is negative
  F32 w[kWeighted ? kBlock : 1];
  I32 signs[kBlock / 8];  // bit k: that of value k of eight
  F32 most, energy, mass;
  const uint32_t* near;

  struct Sums {
    F32 qq, qx;
  };

  INGOT_NOINLINE void read(const float* values, const float* importance, float limit) {
    near = G::near();
    to_lanes<kBlock>(values, -limit, limit, a);
    mass = splat(1.0f);
    if constexpr (kWeighted) mass = importance_to_lanes<kBlock>(importance, w);
    most = energy = splat(0.0f);
    const F32 zero = splat(0.0f);
    for (int g = 0; g < kBlock / 8; ++g) {
      I32 bits_of = splat_i(0), odd = splat_i(0), least_at = splat_i(0);
      F32 least = splat(0.0f);
      for (int k = 0; k < 8; ++k) {
        F32& v = a[8 * g + k];
        const Mask negative = v < zero;
        bits_of = bits_of | select(negative, splat_i(1 << k), splat_i(0));
        odd = odd + select(negative, splat_i(1), splat_i(0));
        v = abs(v);
        F32 weighted = v;
        if constexpr (kWeighted) weighted = w[8 * g + k] * v;
        energy = fma(weighted, v, energy);
        most = max(most, v);
        // To have the wrong sign costs four times that and the least magnitude that there is.
        const Mask less = k == 0 ? equal(odd, odd) : weighted < least;
        least = select(less, weighted, least);
        least_at = select(less, splat_i(k), least_at);
      }
      if constexpr (kEven) {
        const Mask turn = equal(odd & splat_i(1), splat_i(1));
        for (int k = 0; k < 8; ++k) {
          const I32 bit = splat_i(1 << k), here = select(turn, splat_i(k), splat_i(-1));
          const Mask turned = equal(here, least_at);
          a[8 * g + k] = select(turned, zero - a[8 * g + k], a[8 * g + k]);
          bits_of = select(turned, select(equal(bits_of & bit, bit), bits_of - bit, bits_of + bit), bits_of);
        }
      }
      signs[g] = bits_of;
    }
  }

  template <int kMost = kNearWords>
  Word word(int i, F32 inv) const {
    F32 b[G::kValues];
    for (int k = 0; k < G::kValues; ++k) b[k] = a[i * G::kValues + k] * inv;
    return nearest_word<G, kWeighted, kMost>(b, kWeighted ? w + i * G::kValues : nullptr, near);
  }

  template <int kN>
  INGOT_NOINLINE void assign(const F32* inv, Sums* out) const {
    for (int c = 0; c < kN; ++c) {
      F32 qq = splat(0.0f), qx = splat(0.0f);
      for (int i = 0; i < kWords; ++i) {
        I32 rest = word<4>(i, inv[c]).entry;
        for (int k = 0; k < G::kValues; ++k) {
          const F32 q = lookup8(G::levels, rest);
          F32 wq = q;
          if constexpr (kWeighted) wq = w[i * G::kValues + k] * q;
          qq = fma(wq, q, qq);
          qx = fma(wq, a[i * G::kValues + k], qx);
          rest = shr<G::kBits>(rest);
        }
      }
      out[c] = {qq, qx};
    }
  }

  template <int kCandidates>
  F32 search(const float (&candidates)[kCandidates], Effort effort) const { return best_scale(*this, most, candidates, effort); }

  // The error of kN stored scales, words chosen for each.
  template <int kN>
  INGOT_NOINLINE void errors(const F32* stored, F32* err) const {
    for (int c = 0; c < kN; ++c) {
      const F32 inv = inverse_or_zero(stored[c]);
      F32 sum = splat(0.0f);
      for (int i = 0; i < kWords; ++i) sum = sum + word(i, inv).error;
      err[c] = select(splat(0.0f) < inv, sum * stored[c] * stored[c], energy);
    }
  }
};

inline void to_array(I32 v, uint32_t (&out)[16]) {
  float lanes[16];
  store(lanes, from_bits(v));
  std::memcpy(out, lanes, sizeof lanes);
}

// The codes, 0 to 15, of scales 1, 3 .. 31.
inline void odd_codes(F32 scale, uint8_t* out) { store_u8(out, to_int((scale - splat(1.0f)) * splat(0.5f))); }

// Blocks as words: those that suit their scales, the signs of eight values each, the codes of the scales. What is of block l is [..][l].
template <int kBlock, int kWords>
struct Chosen {
  uint32_t entry[kWords][16];
  uint8_t signs[kBlock / 8][16];
  uint8_t scale[16];
  uint16_t index(int i, int lane) const { return static_cast<uint16_t>(entry[i][lane] >> 16); }
};
template <class K, class G, int kBlock, bool kEven, bool kWeighted>
inline Chosen<kBlock, kBlock / G::kValues> choose(const Coded<G, kBlock, kEven, kWeighted>& blocks, const Scales<K>& g) {
  Chosen<kBlock, kBlock / G::kValues> out;
  const F32 inv = inverse_or_zero(g.scale * g.lanes());
  for (int i = 0; i < kBlock / G::kValues; ++i) to_array(blocks.word(i, inv).entry, out.entry[i]);
  for (int i = 0; i < kBlock / 8; ++i) store_u8(out.signs[i], blocks.signs[i]);
  odd_codes(g.scale, out.scale);
  return out;
}
