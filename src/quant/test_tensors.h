// Deterministic tensors for tests of the codecs: integer generator, IEEE operations only, so that every
// machine (and bench/reference_error.cc, which asks the reference for its error on them) sees the same
// floats.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace ingot::testing {

class Generator {
 public:
  explicit Generator(uint64_t seed) : s_(seed * 2654435761u + 12345) {}
  uint32_t next() {  // splitmix64, high half
    uint64_t z = (s_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
  }
  float uniform() { return static_cast<float>(next() >> 8) * 0x1p-24f; }  // [0, 1)
  float gaussian() {                                                      // twelve uniforms: variance 1
    float s = 0;
    for (int i = 0; i < 12; ++i) s += uniform();
    return s - 6.0f;
  }
  float student() {
    return gaussian() / std::sqrt(uniform() + 0x1p-20f);
  }  // heavy tails, about 2 degrees of freedom

 private:
  uint64_t s_;
};

constexpr const char* kKinds[] = {"gaussian", "student", "outlier", "positive", "sparse", "rows"};

// n values in rows of `row`, of one of kKinds.
inline std::vector<float> tensor(const std::string& kind, int64_t n, int64_t row, uint64_t seed = 1) {
  Generator g(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    float v = 0.02f * g.gaussian();
    if (kind == "student") v = 0.02f * g.student();
    if (kind == "outlier" && g.next() % 64 == 0) v *= 20.0f;
    if (kind == "positive") v = 0.5f + 0.1f * g.gaussian();
    if (kind == "sparse" && g.next() % 8 != 0) v = 0.0f;
    if (kind == "rows") v *= static_cast<float>(1 + (i / row) * (i / row) % 97);
    x[static_cast<size_t>(i)] = v;
  }
  return x;
}

// Weights of the shape of a real imatrix: positive, a few columns a hundred times the others.
inline std::vector<float> importance(int64_t row, uint64_t seed = 7) {
  Generator g(seed);
  std::vector<float> w(static_cast<size_t>(row));
  for (auto& v : w) {
    const float t = g.student();
    v = t * t + 0.01f;
  }
  return w;
}

// Squared error over energy, both optionally weighted by column, in f64.
inline double relative_error(const std::vector<float>& x, const std::vector<float>& y,
                             const std::vector<float>& w = {}) {
  double e = 0, s = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double c = w.empty() ? 1.0 : static_cast<double>(w[i % w.size()]);
    const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    e += c * d * d;
    s += c * static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return e / s;
}

}  // namespace ingot::testing
