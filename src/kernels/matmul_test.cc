// matmul_add, dot and the hash: against f64 and known answers; every target gives the scalar reference's
// bits.
#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

std::vector<float> values(int64_t n, uint32_t seed) {
  std::vector<float> x(static_cast<size_t>(n));
  for (auto& v : x) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
  }
  return x;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

TEST(Matmul, EveryTargetEveryShape) {
  for (const int64_t m : {1, 3, 4, 7, 8, 9, 17})
    for (const int64_t k : {0, 1, 2, 8, 16, 33, 300})
      for (const int64_t n : {1, 5, 15, 16, 17, 31, 64, 300}) {
        const auto a = values(m * k, 1), b = values(k * n, 2), c0 = values(m * n, 3);
        force_target("scalar");
        auto want = c0;
        matmul_add(want.data(), a.data(), b.data(), m, k, n, 0.7f);
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            double s = 0, size = 1;
            for (int64_t t = 0; t < k; ++t) {
              const double p = static_cast<double>(a[i * k + t]) * static_cast<double>(b[t * n + j]);
              s += p;
              size += std::fabs(p);
            }
            ASSERT_NEAR(want[i * n + j], static_cast<double>(c0[i * n + j]) + static_cast<double>(0.7f) * s,
                        size * 1e-6);
          }
        for (const auto& target : supported_targets()) {
          force_target(target);
          auto c = c0;
          matmul_add(c.data(), a.data(), b.data(), m, k, n, 0.7f);
          ASSERT_TRUE(same_bits(c, want)) << target << " " << m << " " << k << " " << n;
        }
        force_target("");
      }
}

TEST(Matmul, RowsCanBeTiled) {
  const int64_t m = 37, k = 16, n = 100;
  const auto a = values(m * k, 5), b = values(k * n, 6);
  auto whole = values(m * n, 7), tiled = whole;
  matmul_add(whole.data(), a.data(), b.data(), m, k, n, 2.0f);
  for (int64_t i = 0; i < m; i += 5) {
    const int64_t rows = std::min<int64_t>(5, m - i);
    matmul_add(tiled.data() + i * n, a.data() + i * k, b.data(), rows, k, n, 2.0f);
  }
  EXPECT_TRUE(same_bits(whole, tiled));
}

TEST(Hash, KnownAnswersAndPieces) {
  EXPECT_EQ(to_hex(hash128({})), "99aa06d3014798d86001c324468d497f");  // xxhsum -H2 of an empty file
  const std::string text(10000, 'x');
  const Hash128 h = hash128(as_bytes(text));
  Hasher128 pieces;
  for (size_t i = 0; i < text.size(); i += 777)
    pieces.update(as_bytes(text).subspan(i, std::min<size_t>(777, text.size() - i)));
  EXPECT_EQ(pieces.digest(), h);
  EXPECT_NE(hash128(as_bytes("a")), hash128(as_bytes("b")));
}

}  // namespace
}  // namespace ingot
