// Packed products against the codec's own values: the layout is exact, the machine's path equals the
// reference.
#include "infer/packed.h"

#include <gtest/gtest.h>

#include "infer/test_models.h"
#include "kernels/cast.h"
#include "kernels/dispatch.h"
#include "quant/levels.h"

namespace ingot {
namespace {

using namespace testing_models;

WeightMatrix matrix(DType type, int64_t rows, int64_t cols, uint64_t seed) { return weight_matrix(type, rows, cols, encode(random_values(rows * cols, seed, 1.0f), type, cols)); }

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

// Blocks of a type that is read and not written: any bytes behind a scale.
WeightMatrix unwritten(DType type, int64_t rows, int64_t cols) {
  std::vector<std::byte> bytes(static_cast<size_t>(bytes_of(type, cols) * static_cast<uint64_t>(rows)));
  const auto block = static_cast<size_t>(info(type).bytes);
  uint32_t state = 5;
  for (std::byte& b : bytes) b = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24);
  for (size_t i = 0; i < bytes.size(); i += block) {
    const float d = 0.01f * static_cast<float>(1 + i / block % 7);
    uint16_t h;
    f32_to_f16(&d, 1, &h);
    std::memcpy(&bytes[i], type == DType::kQ8_K ? static_cast<const void*>(&d) : &h, type == DType::kQ8_K ? 4 : 2);
  }
  return weight_matrix(type, rows, cols, bytes);
}

// Every type of quantized blocks has a packed form.
TEST(Packed, EqualsTheCodecOnWholeNumbers) {
  ThreadPool pool(2);
  int types = 0;
  for (int i = 0; i < 64; ++i) {
    const auto type = static_cast<DType>(i);
    if (!find_levels(type)) continue;
    ++types;
    EXPECT_EQ(can_pack(type), machine_has_byte_products());
    for (int64_t rows : {1, 16, 37}) {
      const WeightMatrix w = find_codec(type) ? matrix(type, rows, 512, 7) : unwritten(type, rows, 512);
      const auto packed = pack_matrix(pool, w);
      ASSERT_TRUE(packed) << info(type).name;
      EXPECT_EQ(packed_bytes(type, rows, 512), packed->strip_bytes * static_cast<uint64_t>(packed->strips));
      for (int64_t tokens : {1, 2, 3, 8, 21, 160})
        expect_products(w, tokens, [&](const Int8Activations& a, float* y) { multiply_strips(*packed, 0, packed->strips, a, y); });
    }
  }
  EXPECT_EQ(types, 27);
}

TEST(Packed, RowsOfZerosStayZeros) {
  ThreadPool pool(1);
  for (int i = 0; i < 64; ++i) {
    const auto type = static_cast<DType>(i);
    if (!find_levels(type) || !find_codec(type)) continue;
    std::vector<float> values(static_cast<size_t>(20) * 512, 0.0f);
    const auto some = random_values(512, 3, 1.0f);
    std::copy(some.begin(), some.end(), values.begin() + 4 * 512);
    const WeightMatrix w = weight_matrix(type, 20, 512, encode(values, type, 512));
    const auto packed = pack_matrix(pool, w);
    ASSERT_TRUE(packed);
    Int8Activations a;
    const auto x = random_values(512, 11, 3.0f);
    a.quantize(pool, x.data(), 1, 512);
    std::vector<float> y(20), row(512);
    multiply_strips(*packed, 0, packed->strips, a, y.data());
    for (int64_t r = 0; r < 20; ++r) {
      decode_row(w, r, row.data());
      double want = 0, size = 0;
      for (size_t k = 0; k < 512; ++k) want += static_cast<double>(row[k]) * x[k], size += std::abs(static_cast<double>(row[k]) * x[k]);
      ASSERT_NEAR(y[static_cast<size_t>(r)], want, 0.02 * size) << info(type).name << " row " << r;
    }
  }
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
