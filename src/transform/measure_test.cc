#include "transform/measure.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/cast.h"
#include "quant/codec.h"

namespace ingot::transform {
namespace {

template <class T>
NodePtr tensor(DType type, Shape shape, const std::vector<T>& v) {
  std::vector<std::byte> bytes(v.size() * sizeof(T));
  if (!v.empty()) std::memcpy(bytes.data(), v.data(), bytes.size());
  return make_memory_tensor({type, shape}, std::move(bytes));
}

std::vector<float> normal(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> d;
  std::vector<float> v(n);
  for (float& x : v) x = d(random);
  return v;
}

NodePtr coded(DType type, Shape shape, const std::vector<float>& v) {
  std::vector<std::byte> bytes(bytes_of(type, static_cast<int64_t>(v.size())));
  find_codec(type)->encode(v.data(), static_cast<int64_t>(v.size()) / shape.back(), shape.back(), {}, bytes.data());
  return make_memory_tensor({type, shape}, std::move(bytes));
}

ExecOptions threads(int n) {
  ExecOptions o;
  o.threads = n;
  return o;
}

TEST(Measure, ValuesAgainstPlainSums) {
  std::vector<float> v = normal(300 * 1000, 1);
  v[5] = 0, v[70000] = NAN, v[70001] = INFINITY, v[200000] = -INFINITY, v[299999] = -9;
  long double sum = 0, squares = 0;
  for (const float x : v)
    if (std::isfinite(x)) sum += x, squares += static_cast<long double>(x) * x;
  for (int n : {1, 3}) {
    const auto r = measure({{"v", tensor(DType::kF32, {300, 1000}, v)}}, threads(n));
    ASSERT_TRUE(r.ok()) << r.error().message;
    const TensorMeasure& m = (*r)[0];
    EXPECT_EQ(m.count, 300000u);
    EXPECT_EQ(m.nan, 1u);
    EXPECT_EQ(m.infinite, 2u);
    EXPECT_EQ(m.zero, 1u);
    EXPECT_EQ(m.first_nonfinite, 70000);
    EXPECT_EQ(m.min, -9);
    EXPECT_NEAR(m.sum, static_cast<double>(sum), 1e-9 * 300000);
    EXPECT_NEAR(m.squares, static_cast<double>(squares), 1e-12 * static_cast<double>(squares) * 1000);
  }
}

TEST(Measure, EveryKindOfType) {
  const std::vector<LazyTensor> all = {{"f64", tensor<double>(DType::kF64, {3}, {1e300, -2, 0.5})},
                                       {"i64", tensor<int64_t>(DType::kI64, {}, {-(int64_t{1} << 40)})},
                                       {"bool", tensor<uint8_t>(DType::kBool, {2, 2}, {1, 0, 0, 1})},
                                       {"u16", tensor<uint16_t>(DType::kU16, {1}, {65535})},
                                       {"empty", tensor<float>(DType::kF32, {0, 4}, {})},
                                       {"q8", coded(DType::kQ8_0, {1, 32}, std::vector<float>(32, 2.0f))}};
  const auto r = measure(all, threads(2));
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ((*r)[0].max, 1e300);
  EXPECT_EQ((*r)[1].min, -static_cast<double>(int64_t{1} << 40));
  EXPECT_EQ((*r)[2].sum, 2);
  EXPECT_EQ((*r)[2].zero, 2u);
  EXPECT_EQ((*r)[3].max, 65535);
  EXPECT_EQ((*r)[4].count, 0u);
  EXPECT_NEAR((*r)[5].sum, 64, 0.05);
  EXPECT_EQ(*first_values(all[1], 8), std::vector<double>{-static_cast<double>(int64_t{1} << 40)});
  EXPECT_EQ(first_values(all[5], 3)->size(), 3u);
  EXPECT_TRUE(first_values(all[4], 3)->empty());
  const auto none = measure({{"w", make_memory_tensor({DType::kF6E2M3, {256}}, std::vector<std::byte>(192))}}, {});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("F6_E2M3"), std::string::npos);
}

TEST(Measure, Histogram) {
  const auto h = histogram({"v", tensor<float>(DType::kF32, {6}, {0, 0.9f, 1, 2, 4, NAN})}, 0, 4, 4, {});
  ASSERT_TRUE(h.ok());
  EXPECT_EQ(*h, (std::vector<uint64_t>{2, 1, 1, 1}));
}

TEST(Measure, DifferencesAgainstPlainSums) {
  const std::vector<float> a = normal(512 * 700, 2);
  std::vector<float> b = a;
  std::mt19937 random(3);
  for (size_t i = 0; i < b.size(); i += 3) b[i] += 1e-3f * static_cast<float>(random() % 100);
  b[1234] = a[1234] + 1;
  long double sum = 0, squared = 0, bb = 0;
  uint64_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const long double d = std::fabs(static_cast<long double>(a[i]) - b[i]);
    sum += d, squared += d * d, bb += static_cast<long double>(b[i]) * b[i], different += d != 0;
  }
  const Shape shape{512, 700};
  const NodePtr x = tensor(DType::kF32, shape, a);
  const auto r = differences({{x, tensor(DType::kF32, shape, b)}, {x, tensor(DType::kF32, shape, a)}}, threads(2));
  ASSERT_TRUE(r.ok()) << r.error().message;
  const TensorDifference& d = (*r)[0];
  EXPECT_FALSE(d.same_bytes);
  EXPECT_EQ(d.different, different);
  EXPECT_EQ(d.worst, 1234);
  EXPECT_NEAR(d.max_error, 1, 1e-6);
  EXPECT_NEAR(d.mean_error(), static_cast<double>(sum) / static_cast<double>(a.size()), 1e-9);
  EXPECT_NEAR(d.relative(), static_cast<double>(std::sqrt(squared / bb)), 1e-9);
  EXPECT_GT(d.cosine(), 0.99);
  EXPECT_LT(d.cosine(), 1);
  EXPECT_TRUE((*r)[1].same_bytes);
  EXPECT_EQ((*r)[1].cosine(), 1);
}

TEST(Measure, SameValuesInOtherTypesAndWhatIsNoNumber) {
  const std::vector<float> v = {1, -2, 0.5f, NAN, INFINITY, 0};
  std::vector<float> w = v;
  w[0] = NAN;
  w[5] = -0.0f;
  std::vector<std::byte> half(12);
  find_codec(DType::kBF16)->encode(v.data(), 1, 6, {}, half.data());
  const Shape shape{6};
  const NodePtr x = tensor(DType::kF32, shape, v);
  const auto r = differences({{x, make_memory_tensor({DType::kBF16, shape}, half)}, {x, tensor(DType::kF32, shape, w)}}, {});
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_FALSE((*r)[0].same_bytes);
  EXPECT_EQ((*r)[0].different, 0u);
  EXPECT_EQ((*r)[1].different, 1u);
  EXPECT_EQ((*r)[1].nonfinite, 1u);
  // What has no values has bytes.
  std::vector<std::byte> blocks(192 * 4);
  const NodePtr p = make_memory_tensor({DType::kF6E2M3, {4, 256}}, blocks);
  blocks[300] = std::byte{1};
  const auto bytes = differences({{p, p}, {p, make_memory_tensor({DType::kF6E2M3, {4, 256}}, blocks)}}, {});
  ASSERT_TRUE(bytes.ok());
  EXPECT_TRUE((*bytes)[0].same_bytes);
  EXPECT_FALSE((*bytes)[1].same_bytes);
}

}  // namespace
}  // namespace ingot::transform
