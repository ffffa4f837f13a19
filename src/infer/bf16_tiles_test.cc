// Products by tiles of bf16 against f64: what is lost, odd shapes, what is not finite; and that a token's bits are its own.
#include "infer/bf16_tiles.h"

#include <gtest/gtest.h>

#include "infer/matmul.h"
#include "infer/test_models.h"
#include "kernels/dispatch.h"

namespace ingot {
namespace {

using namespace testing_models;

WeightMatrix tiled(DType type, int64_t rows, int64_t cols, uint64_t seed) {
  WeightMatrix w = weight_matrix(type, rows, cols, encode(random_values(rows * cols, seed, 1.0f), type, cols));
  w.by_tiles = true;
  return w;
}

std::vector<float> times(const WeightMatrix& w, const std::vector<float>& x, int64_t tokens, int threads = 2) {
  ThreadPool pool(threads);
  WorkMemory memory;
  memory.prepare(threads);
  std::vector<float> y(static_cast<size_t>(tokens * w.rows), NAN);
  const Product p{&w, y.data()};
  EXPECT_TRUE(multiply(pool, memory, x.data(), tokens, std::span(&p, 1)).ok());
  return y;
}

class Tiles : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!machine_has_bf16_tiles()) GTEST_SKIP() << "no AMX here";
  }
};

TEST_F(Tiles, LoseLessThanSixteenBits) {
  for (DType type : {DType::kBF16, DType::kF16, DType::kF32})
    for (const auto& [rows, cols, tokens] : std::vector<std::array<int64_t, 3>>{
             {1, 32, 2}, {31, 8, 3}, {32, 64, 32}, {33, 40, 31}, {130, 1000, 5}, {64, 1024, 33}, {300, 1056, 70}, {17, 2500, 16}, {1, 1, 2}}) {
      const WeightMatrix w = tiled(type, rows, cols, 3);
      const auto x = random_values(tokens * cols, 5, 30.0f);
      const auto y = times(w, x, tokens);
      std::vector<float> row(static_cast<size_t>(cols));
      for (int64_t r = 0; r < rows; ++r) {
        decode_row(w, r, row.data());
        for (int64_t t = 0; t < tokens; ++t) {
          double want = 0, size = 0;
          for (int64_t k = 0; k < cols; ++k) {
            const double v = static_cast<double>(row[static_cast<size_t>(k)]) * x[static_cast<size_t>(t * cols + k)];
            want += v, size += std::abs(v);
          }
          ASSERT_NEAR(y[static_cast<size_t>(t * rows + r)], want, size * 0x1p-16) << info(type).name << " " << rows << " x " << cols << ", token " << t << " of " << tokens << ", row " << r;
        }
      }
    }
}

TEST_F(Tiles, ATokensBitsAreItsOwnWhateverComesWithItOrHowManyThreadsThereAre) {
  for (DType type : {DType::kBF16, DType::kF16, DType::kF32}) {
    const int64_t rows = 200, cols = 1500, tokens = 67;
    const WeightMatrix w = tiled(type, rows, cols, 9);
    const auto x = random_values(tokens * cols, 2, 1.0f);
    const auto all = times(w, x, tokens, 1);
    EXPECT_EQ(times(w, x, tokens, 5), all);
    for (int64_t t = 0; t + 2 <= tokens; t += 13) {
      const auto two = times(w, {x.begin() + t * cols, x.begin() + (t + 2) * cols}, 2);
      EXPECT_EQ(0, std::memcmp(two.data(), all.data() + t * rows, two.size() * 4)) << t;
    }
  }
}

TEST_F(Tiles, WhatWasMultipliedBeforeIsNotRead) {
  ThreadPool pool(2);
  WorkMemory memory;
  memory.prepare(2);
  const WeightMatrix wide = tiled(DType::kF16, 40, 640, 1), narrow = tiled(DType::kF16, 40, 600, 2);
  const std::vector<float> nan(static_cast<size_t>(64 * 640), NAN), x = random_values(33 * 600, 3, 1.0f);
  std::vector<float> y(static_cast<size_t>(64 * 40));
  const Product before{&wide, y.data()}, now{&narrow, y.data()};
  ASSERT_TRUE(multiply(pool, memory, nan.data(), 64, std::span(&before, 1)).ok());
  ASSERT_TRUE(multiply(pool, memory, x.data(), 33, std::span(&now, 1)).ok());
  y.resize(static_cast<size_t>(33 * 40));
  EXPECT_EQ(y, times(narrow, x, 33));
}

TEST_F(Tiles, WhatIsNotFiniteIsNotLost) {
  const WeightMatrix w = tiled(DType::kF16, 40, 96, 4);
  auto x = random_values(4 * 96, 6, 1.0f);
  x[5] = NAN;
  x[96 + 7] = INFINITY;
  x[2 * 96 + 9] = 3.4e38f;  // beyond what bf16 rounds to a number
  const auto y = times(w, x, 4);
  const WeightMatrix plain = [&] {
    WeightMatrix p = w;
    p.by_tiles = false;
    return p;
  }();
  const auto want = times(plain, x, 4);
  for (size_t i = 0; i < y.size(); ++i) {
    ASSERT_EQ(std::isfinite(y[i]), std::isfinite(want[i])) << i;
    if (!std::isfinite(want[i])) continue;  // an infinite number's product with a part that is zero is none
    EXPECT_NEAR(y[i], want[i], 1e-4 * std::max(1.0f, std::abs(want[i]))) << i;
  }
}

TEST(TilesAreOf, FloatTypesOnMachinesThatHaveThem) {
  EXPECT_FALSE(can_multiply_by_tiles(DType::kQ4_0));
  EXPECT_EQ(can_multiply_by_tiles(DType::kBF16), machine_has_bf16_tiles());
  ASSERT_TRUE(force_target("scalar"));
  EXPECT_FALSE(can_multiply_by_tiles(DType::kF16));
  ASSERT_TRUE(force_target(""));
}

}  // namespace
}  // namespace ingot
