// Packed products against the codec's own values: the layout is exact, the machine's path equals the
// reference.
#include "infer/packed.h"

#include <gtest/gtest.h>

#include "infer/level_strips.h"
#include "infer/test_models.h"
#include "kernels/dispatch.h"
#include "quant/levels.h"

namespace ingot {
namespace {

using namespace testing_models;

WeightMatrix matrix(DType type, int64_t rows, int64_t cols, uint64_t seed) {
  const auto bytes = encode(random_values(rows * cols, seed, 1.0f), type, cols);
  WeightMatrix w;
  w.type = type;
  w.rows = rows;
  w.cols = cols;
  w.row_bytes = bytes_of(type, cols);
  w.decode = find_decode(type);
  AlignedBytes b = allocate_aligned(bytes.size());
  std::memcpy(b.get(), bytes.data(), bytes.size());
  w.data = std::shared_ptr<const std::byte[]>(std::move(b));
  return w;
}

// `multiply` with the machine's instructions gives the products of the codec's values, and the same bits with fewer of them and with none.
template <class F>
void expect_products(const WeightMatrix& w, int64_t tokens, F multiply) {
  ThreadPool pool(2);
  const int64_t cols = w.cols, rows = w.rows;
  // Whole numbers with a 127 in every block survive the rounding exactly.
  auto x = random_values(tokens * cols, 9, 40.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = i % 32 == 5 ? 127 : std::round(std::clamp(x[i], -127.0f, 127.0f));
  Int8Activations a;
  a.quantize(pool, x.data(), tokens, cols);
  std::vector<float> y(static_cast<size_t>(rows * tokens), NAN), row(static_cast<size_t>(cols));
  multiply(a, y.data());
  for (int64_t r = 0; r < rows; ++r) {
    decode_row(w, r, row.data());
    for (int64_t t = 0; t < tokens; ++t) {
      double want = 0, size = 0;
      for (int64_t k = 0; k < cols; ++k) {
        const double v = static_cast<double>(row[static_cast<size_t>(k)]) * x[static_cast<size_t>(t * cols + k)];
        want += v, size += std::abs(v);
      }
      ASSERT_NEAR(y[static_cast<size_t>(t * rows + r)], want, 1e-6 * size) << info(w.type).name << " row " << r;
    }
  }
  const auto before = y;
  for (const std::string& target : supported_targets()) {
    std::fill(y.begin(), y.end(), NAN);
    ASSERT_TRUE(force_target(target));
    multiply(a, y.data());
    ASSERT_TRUE(force_target(""));
    ASSERT_EQ(0, std::memcmp(y.data(), before.data(), y.size() * 4)) << info(w.type).name << " " << target;
  }
}

TEST(Packed, EqualsTheCodecOnWholeNumbers) {
  ThreadPool pool(2);
  for (DType type : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K})
    for (int64_t rows : {1, 16, 37}) {
      const WeightMatrix w = matrix(type, rows, 512, 7);
      const auto packed = pack_matrix(pool, w);
      ASSERT_TRUE(packed);
      for (int64_t tokens : {1, 2, 3, 8, 21})
        expect_products(w, tokens, [&](const Int8Activations& a, float* y) { multiply_strips(*packed, 0, packed->strips, a, y); });
    }
}

TEST(LevelStrips, EqualTheCodecOnWholeNumbers) {
  int types = 0;
  for (int i = 0; i < 64; ++i) {
    const auto type = static_cast<DType>(i);
    if (!find_levels(type) || !find_codec(type)) continue;
    ++types;
    for (int64_t rows : {1, 16, 37}) {
      const WeightMatrix w = matrix(type, rows, 512, 7);
      for (int64_t tokens : {1, 2, 3, 8, 21})
        expect_products(w, tokens, [&](const Int8Activations& a, float* y) {
          std::vector<std::byte> levels(static_cast<size_t>(level_strip_bytes(type, w.cols)));
          for (int64_t s = 0; s < (rows + 15) / 16; ++s) {
            std::fill(levels.begin(), levels.end(), std::byte{0xA5});
            read_level_strip(w, s, levels.data());
            multiply_level_strip(w, s, levels.data(), a, y);
          }
        });
    }
  }
  EXPECT_EQ(types, 23);
  EXPECT_FALSE(can_multiply_levels(DType::kF16));
}

TEST(Packed, ActivationsOfEveryKind) {
  ThreadPool pool(1);
  std::vector<float> x(32 * 6, 0.0f);
  for (int i = 0; i < 32; ++i) x[32 + static_cast<size_t>(i)] = static_cast<float>(i - 16);
  x[64] = NAN;
  x[96 + 31] = INFINITY;
  x[128] = 1e-42f;  // denormal: its inverse overflows
  x[160] = 3e38f;
  Int8Activations a;
  a.quantize(pool, x.data(), 1, 192);
  EXPECT_EQ(a.scale[0], 0.0f);
  EXPECT_EQ(a.q[32], -127);
  EXPECT_FLOAT_EQ(a.scale[1] * -127, -16);
  EXPECT_TRUE(std::isnan(a.scale[2]));
  EXPECT_TRUE(std::isnan(a.scale[3]));
  EXPECT_LT(std::abs(a.scale[4]), 1e-40f);
  EXPECT_EQ(a.q[160], 127);
  for (size_t h = 0; h < a.sums.size(); ++h) {
    int32_t sum = 0;
    for (size_t i = 0; i < 16; ++i) sum += a.q[h * 16 + i];
    EXPECT_EQ(sum, a.sums[h]);
  }
  EXPECT_EQ(pack_matrix(pool, matrix(DType::kF16, 4, 32, 1)), nullptr);
  EXPECT_FALSE(can_pack(DType::kF32));
}

}  // namespace
}  // namespace ingot
