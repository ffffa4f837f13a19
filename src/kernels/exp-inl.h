// e^x in lanes, inside a target's namespace (no include guard: once for each target).

// 2^n * p(r) with x = n ln 2 + r; the polynomial is the Taylor series to r^7 (|r| <= 0.347: error below 1e-8
// of the value). Below -87.3 the result is 0, above 88.7 infinity; NaN stays NaN.
inline F32 exp_lanes(F32 x) {
  const F32 low = splat(-87.33654f), high = splat(88.72283f);
  const F32 c = min(max(x, low), high);
  const F32 n = round(c * splat(1.44269504f));
  F32 r = fnma(n, splat(0.693359375f), c);  // ln 2 in two parts: the first product is exact
  r = fnma(n, splat(-2.12194440e-4f), r);
  F32 p = splat(1.0f / 5040.0f);
  p = fma(p, r, splat(1.0f / 720.0f));
  p = fma(p, r, splat(1.0f / 120.0f));
  p = fma(p, r, splat(1.0f / 24.0f));
  p = fma(p, r, splat(1.0f / 6.0f));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  // Two factors: 2^128 alone would overflow for the largest x.
  const I32 k = to_int(n);
  const I32 h = to_int(round(n * splat(0.5f)));
  p = p * from_bits(shl<23>(h + splat_i(127)));
  p = p * from_bits(shl<23>((k - h) + splat_i(127)));
  p = select(x < low, splat(0.0f), p);
  p = select(x > high, splat(std::numeric_limits<float>::infinity()), p);
  return select(is_nan(x), x, p);
}
