// FP8 weights: every code, every way that scales lie beside weights, tiles against the whole.
#include "transform/fp8.h"

#include <cmath>

#include "transform/cast.h"
#include "transform/permute.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

NodePtr codes(DType type, Shape shape, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<std::byte> bytes(static_cast<size_t>(shape.elements()));
  for (auto& b : bytes)
    do b = static_cast<std::byte>(rng()); while (!std::isfinite(fp8_value(type, static_cast<uint8_t>(b))));
  return make_memory_tensor({type, shape}, std::move(bytes));
}

TEST(Fp8, EveryCodeHasTheValueOfItsBits) {
  for (int code = 0; code < 256; ++code) {
    const int sign = code >> 7, e4 = code >> 3 & 15, m3 = code & 7, e5 = code >> 2 & 31, m2 = code & 3;
    const double s = sign ? -1 : 1;
    const float a = fp8_value(DType::kF8E4M3, static_cast<uint8_t>(code)), b = fp8_value(DType::kF8E5M2, static_cast<uint8_t>(code));
    EXPECT_EQ(std::signbit(a), sign == 1) << code;
    EXPECT_EQ(std::signbit(b), sign == 1) << code;
    if (e4 == 15 && m3 == 7) EXPECT_TRUE(std::isnan(a)) << code;
    else EXPECT_EQ(a, s * (e4 ? (1 + m3 / 8.0) * std::pow(2.0, e4 - 7) : m3 / 8.0 * std::pow(2.0, -6))) << code;
    if (e5 == 31 && m2) EXPECT_TRUE(std::isnan(b)) << code;
    else if (e5 == 31) EXPECT_EQ(b, s * INFINITY) << code;
    else EXPECT_EQ(b, s * (e5 ? (1 + m2 / 4.0) * std::pow(2.0, e5 - 15) : m2 / 4.0 * std::pow(2.0, -14))) << code;
  }
  EXPECT_EQ(fp8_value(DType::kF8E4M3, 0x7E), 448);
  EXPECT_EQ(fp8_value(DType::kF8E5M2, 0x7B), 57344);
}

TEST(Fp8, BlocksRowsAndOneScaleEqualAnF64Reference) {
  constexpr int64_t kRows = 45, kCols = 70;
  struct Case {
    Shape scale;
    int64_t rows, cols;
  };
  const Case cases[] = {{{}, 128, 128}, {{1}, 128, 128}, {{kRows, 1}, 1, kCols}, {{kRows}, 1, kCols}, {{3, 5}, 16, 16}, {{2, 3}, 32, 25}};
  uint64_t seed = 0;
  for (const DType type : {DType::kF8E4M3, DType::kF8E5M2})
    for (const DType scale_type : {DType::kF32, DType::kBF16})
      for (const Case& c : cases) {
        const NodePtr w = codes(type, {kRows, kCols}, ++seed);
        const NodePtr scale = scale_type == DType::kF32 ? f32_tensor(c.scale, random_floats(c.scale.elements(), seed, 0.01f))
                                                        : typed_tensor(scale_type, c.scale, random_floats(c.scale.elements(), seed, 0.01f));
        const NodePtr node = fp8_weight(w, scale, c.rows, c.cols, "s");
        const auto got = values(node), s = values(scale);
        const auto bytes = *evaluate(w);
        const int64_t across = (kCols + c.cols - 1) / c.cols;
        for (int64_t i = 0; i < kRows; ++i)
          for (int64_t j = 0; j < kCols; ++j) {
            const auto at = static_cast<size_t>(i * kCols + j);
            const double factor = s[s.size() == 1 ? 0 : static_cast<size_t>(i / c.rows * across + j / c.cols)];
            ASSERT_EQ(got[at], static_cast<float>(static_cast<double>(fp8_value(type, static_cast<uint8_t>(bytes[at]))) * factor)) << i << " " << j;
          }
        expect_regions_match(node, 20, seed);
      }
}

TEST(Fp8, ScalesThatArePowersOfTwoAndNoScale) {
  const NodePtr w = codes(DType::kF8E4M3, {4, 6}, 1);
  const NodePtr powers = make_memory_tensor({DType::kF8E8M0, {2, 2}}, {std::byte{127}, std::byte{130}, std::byte{124}, std::byte{127}});
  const auto plain = values(fp8_weight(w, nullptr, 2, 3, "")), scaled = values(fp8_weight(w, powers, 2, 3, "s"));
  for (size_t i = 0; i < 4; ++i)
    for (size_t j = 0; j < 6; ++j) {
      const float factors[2][2] = {{1, 8}, {0.125f, 1}};
      EXPECT_EQ(scaled[i * 6 + j], plain[i * 6 + j] * factors[i / 2][j / 3]);
    }
  for (const float bad : {INFINITY, NAN, 1e35f}) {
    auto r = evaluate(fp8_weight(w, f32_tensor({4, 1}, {1, 1, bad, 1}), 1, 6, "the.scale"));
    ASSERT_FALSE(r.ok());
    EXPECT_NE(r.error().message.find("element [2, 0] of 'the.scale'"), std::string::npos) << r.error().message;
  }
}

// NaN is NaN in whatever float follows, and no block type's.
TEST(Fp8, NaNPassesIntoFloatsAndIsRefusedByBlocks) {
  std::vector<std::byte> bytes(64, std::byte{0x38});
  bytes[37] = std::byte{0x7F};
  const NodePtr node = fp8_weight(make_memory_tensor({DType::kF8E4M3, {2, 32}}, std::move(bytes)), f32_tensor({}, {2}), 128, 128, "s");
  const auto v = values(*cast("t", node, DType::kBF16));
  EXPECT_TRUE(std::isnan(v[37]));
  EXPECT_EQ(v[36], 2);
  auto q = evaluate(*cast("t", node, DType::kQ8_0));
  ASSERT_FALSE(q.ok());
  EXPECT_NE(q.error().message.find("[1, 5]"), std::string::npos) << q.error().message;
}

// The type that weights are kept in is no stop on the way to another.
TEST(Fp8, WhatFollowsRoundsOnce) {
  const NodePtr exact = fp8_weight(codes(DType::kF8E4M3, {64, 32}, 3), f32_tensor({1}, {0.0123456f}), 128, 128, "s");
  const NodePtr kept = *cast("t", exact, DType::kBF16, {nullptr, nullptr, true});
  EXPECT_EQ(kept->spec().type, DType::kBF16);
  const NodePtr turned = *permute_rope(kept, 2, RopeOrder::kToInterleaved), turned_exact = *permute_rope(exact, 2, RopeOrder::kToInterleaved);
  for (const auto& [a, b] : {std::pair{kept, exact}, {turned, turned_exact}}) {
    EXPECT_NE(values(a), values(b));
    EXPECT_EQ(*cast("t", a, DType::kBF16), a);
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0})
      EXPECT_EQ(*evaluate(*cast("t", a, type)), *evaluate(*cast("t", b, type))) << info(type).name;
  }
  EXPECT_EQ((*cast("t", exact, DType::kBF16))->unrounded(), nullptr);
}

}  // namespace
}  // namespace ingot::transform
