// Types of 32-value blocks (or kBlock), encoded sixteen blocks at a time; kUnit values are Step::kBytes in the file. Include after lanes-inl.h.

constexpr int kBlock = 32;

// Calls step(values, importance, effort, blocks, bytes) for each sixteen blocks; the last ones padded with zeros.
template <class Step, int kBlock = 32, int kUnit = kBlock>
inline void for_groups(const float* x, int64_t n, int64_t row, const EncodeContext& how, uint8_t* out) {
  const float* importance = how.importance;
  constexpr int kGroup = 16 * kBlock;
  float xs[kGroup], ws[kGroup];
  for (int64_t i = 0; i < n; i += kGroup) {
    const int blocks = static_cast<int>((n - i < kGroup ? n - i : kGroup) / kBlock);
    const float* src = x + i;
    if (blocks < 16) {
      std::memset(xs, 0, sizeof xs);
      std::memcpy(xs, src, static_cast<size_t>(blocks) * kBlock * 4);
      src = xs;
    }
    if (importance)
      for (int b = 0; b < 16; ++b)
        std::memcpy(ws + b * kBlock, importance + (i + b * kBlock) % row, kBlock * 4);
    Step::step(src, importance ? ws : nullptr, how.effort, blocks, out + i / kUnit * Step::kBytes);
  }
}

// A type by its step with importance and without.
template <template <bool> class Step, int kBlock = 32, int kUnit = kBlock>
inline void encode_either(const float* x, int64_t r, int64_t n, const EncodeContext& how, std::byte* out) {
  uint8_t* p = reinterpret_cast<uint8_t*>(out);
  if (how.importance)
    for_groups<Step<true>, kBlock, kUnit>(x, r * n, n, how, p);
  else
    for_groups<Step<false>, kBlock, kUnit>(x, r * n, n, how, p);
}
