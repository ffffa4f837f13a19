// Single-thread speed of every codec and of the kernels beneath them, on every target this machine has.
// Prints: what, target, million elements a second, GB/s of f32 read or written, and (matmul) GFLOP/s.
// Usage: codec_bench [elements, default 4194304] [filter]
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cast.h"
#include "kernels/dispatch.h"
#include "kernels/hash.h"
#include "kernels/matmul.h"
#include "quant/codec.h"

using namespace ingot;

namespace {

constexpr DType kTypes[] = {
#define TYPE(name, ...) DType::name,
#include "tensor/types.def"
#undef TYPE
};

// Best seconds of several runs, at least 0.3 s in all.
template <class F>
double best_of(F f) {
  double best = 1e9, total = 0;
  for (int i = 0; i < 3 || (total < 0.3 && i < 100); ++i) {
    const auto t0 = std::chrono::steady_clock::now();
    f();
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count();
    best = s < best ? s : best;
    total += s;
  }
  return best;
}

// Sums of four uniforms from a linear congruential generator, with the variance of typical weights.
std::vector<float> weights(size_t n) {
  std::vector<float> x(n);
  uint32_t s = 1;
  for (auto& v : x) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      s = s * 1664525u + 1013904223u;
      sum += static_cast<float>(s >> 8) * 0x1p-24f - 0.5f;
    }
    v = 0.03f * sum;
  }
  return x;
}

void row(const std::string& what, const std::string& target, double n, double seconds) {
  std::printf("%-16s %-8s %10.1f M elements/s %8.2f GB/s\n", what.c_str(), target.c_str(), n / seconds / 1e6,
              n * 4 / seconds / 1e9);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t n = (argc > 1 ? std::atoll(argv[1]) : 4 << 20) / 2048 * 2048;
  const std::string filter = argc > 2 ? argv[2] : "";
  const auto wanted = [&](const std::string& s) {
    return filter.empty() || s.find(filter) != std::string::npos;
  };
  const std::vector<float> x = weights(static_cast<size_t>(n));
  std::vector<float> back(x.size(), 1.0f), importance(2048, 1.0f);
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = 0.1f + static_cast<float>(i * 37 % 64);
  std::vector<std::byte> bytes(static_cast<size_t>(n) * 4);
  std::memset(bytes.data(), 1, bytes.size());

  for (const std::string& target : supported_targets()) {
    force_target(target);
    const int64_t m = target == "scalar" ? std::min<int64_t>(n, 1 << 18) : n;
    for (const DType t : kTypes) {
      const Codec* c = find_codec(t);
      if (!c) continue;
      const std::string name(info(t).name);
      if (wanted(name)) {
        const auto encode = [&](const char* what, const EncodeContext& how) {
          row(name + what, target, static_cast<double>(m), best_of([&] { c->encode(x.data(), m / 2048, 2048, how, bytes.data()); }));
        };
        encode(" encode", {});
        if (is_block_type(t)) {
          encode(" imatrix", {importance.data()});
          encode(" fast", {nullptr, Effort::kFast});
          encode(" best", {nullptr, Effort::kBest});
        }
        row(name + " decode", target, static_cast<double>(m),
            best_of([&] { c->decode(bytes.data(), m, back.data()); }));
      }
    }
    if (wanted("nonfinite"))
      row("nonfinite", target, static_cast<double>(m), best_of([&] {
            if (first_nonfinite(x.data(), m) >= 0) std::abort();
          }));
    if (wanted("matmul")) {
      const int64_t rows = target == "scalar" ? 64 : 512, k = 16, cols = 2048;
      std::vector<float> c(static_cast<size_t>(rows * cols));
      const double s =
          best_of([&] { matmul_add(c.data(), x.data(), x.data() + 65536, rows, k, cols, 0.5f); });
      std::printf("%-16s %-8s %10.1f GFLOP/s (%lld x %lld x %lld)\n", "matmul_add", target.c_str(),
                  2.0 * static_cast<double>(rows * k * cols) / s / 1e9, static_cast<long long>(rows),
                  static_cast<long long>(k), static_cast<long long>(cols));
    }
  }
  if (wanted("hash"))
    row("xxh3-128", "-", static_cast<double>(n), best_of([&] {
          if (hash128({reinterpret_cast<const std::byte*>(x.data()), x.size() * 4}) == Hash128{})
            std::abort();
        }));
  return 0;
}
