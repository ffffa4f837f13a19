#include "cli/encode_time.h"

#include <chrono>
#include <cmath>
#include <vector>

#include "tensor/shape.h"

namespace ingot::cli {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Like weights: bell-shaped, of any scale.
std::vector<float> sample(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  uint32_t state = 1;
  const auto uniform = [&] { return static_cast<float>((state = state * 1664525 + 1013904223) >> 8) * 0x1p-24f - 0.5f; };
  for (float& v : x) v = 0.03f * (uniform() + uniform() + uniform() + uniform());
  return x;
}

}  // namespace

double encode_seconds(const EncodedValues& values, Effort effort) {
  constexpr int64_t kRow = 1024, kRows = 16;
  const std::vector<float> x = sample(kRow * kRows), weights(static_cast<size_t>(kRow), 1.0f);
  double seconds = 0;
  for (const auto& [kind, n] : values) {
    const Codec* codec = find_codec(kind.first);
    if (!codec) continue;
    std::vector<std::byte> out(bytes_of(kind.first, kRow * kRows));
    const EncodeContext how{kind.second ? weights.data() : nullptr, effort};
    codec->encode(x.data(), 1, kRow, how, out.data());  // tables that are made at the first use
    int64_t done = 0;
    const double start = now();
    double taken = 0;
    for (; taken < 0.005; done += kRow * kRows, taken = now() - start) codec->encode(x.data(), kRows, kRow, how, out.data());
    seconds += static_cast<double>(n) * taken / static_cast<double>(done);
  }
  return seconds;
}

}  // namespace ingot::cli
