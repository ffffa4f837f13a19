// What every codec promises: the same bytes on every target and at any tiling, hand-computed blocks, error
// bounds, finite output whatever finite floats come in.
#include "quant/codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cast.h"
#include "kernels/dispatch.h"
#include "kernels/hash.h"
#include "quant/test_tensors.h"

namespace ingot {
namespace {

using testing::Generator;
using Bytes = std::vector<std::byte>;

const std::vector<DType> kAll = {
#define CODEC(x) DType::k##x,
#include "quant/codecs.def"
#undef CODEC
};

Bytes encode(DType t, const std::vector<float>& x, int64_t row, const float* importance = nullptr) {
  const int64_t n = static_cast<int64_t>(x.size());
  Bytes out(static_cast<size_t>(n / info(t).block * info(t).bytes) + 1, std::byte{0xa5});
  find_codec(t)->encode(x.data(), n / row, row, {importance}, out.data());
  EXPECT_EQ(out.back(), std::byte{0xa5}) << "written past the end";
  out.pop_back();
  return out;
}

std::vector<float> decode(DType t, const Bytes& b) {
  const int64_t n = static_cast<int64_t>(b.size()) / info(t).bytes * info(t).block;
  std::vector<float> y(static_cast<size_t>(n) + 1, 123.0f);
  find_codec(t)->decode(b.data(), n, y.data());
  EXPECT_EQ(y.back(), 123.0f) << "written past the end";
  y.pop_back();
  return y;
}

// Rows that have broken quantizers: zeros, constants of both signs, one outlier, denormals, huge,
// alternating, ramps.
std::vector<std::vector<float>> odd_rows(int64_t row) {
  std::vector<std::vector<float>> rows;
  const auto fill = [&](auto f) {
    std::vector<float> r(static_cast<size_t>(row));
    for (int64_t i = 0; i < row; ++i) r[static_cast<size_t>(i)] = f(i);
    rows.push_back(std::move(r));
  };
  for (const float c : {0.0f, -0.0f, 1.0f, -1.0f, 0.37f, -1e-3f, 1e-8f, -3e-8f, 1e-30f, 1e-45f, 65504.0f,
                        -7e4f, 1e6f, -1e9f, 3e38f, -3e38f})
    fill([&](int64_t) { return c; });
  for (const float c : {1.0f, -100.0f, 1e-7f, 1e8f, 3e38f})
    fill([&](int64_t i) { return i == row / 2 + 3 ? c : 0.0f; });
  for (const float c : {1e-45f, 1e-38f, 1e-20f, 1e-9f, 6e-8f, 1e-5f, 1.0f, 1e5f, 4e6f, 1e12f, 3e38f}) {
    fill([&](int64_t i) { return i % 2 ? c : -c; });
    fill([&](int64_t i) { return c * (static_cast<float>(i % 97) / 97.0f - 0.3f); });
    Generator g(3);
    fill([&](int64_t) { return c * (g.uniform() - 0.5f); });
    fill([&](int64_t i) { return i % 32 < 3 ? c : c * 1e-6f; });
  }
  return rows;
}

double bits_of(DType t) { return 8.0 * static_cast<double>(info(t).bytes) / static_cast<double>(info(t).block); }
// Types of so few bits that no step bounds an error: what they are worth is in error_test.cc.
bool coarse(DType t) { return is_block_type(t) && bits_of(t) < 2.6; }

class EachCodec : public ::testing::TestWithParam<DType> {
 protected:
  void TearDown() override { force_target(""); }
};

TEST_P(EachCodec, SameBytesOnEveryTarget) {
  const DType t = GetParam();
  struct Case {
    std::vector<float> x;
    std::vector<float> importance;
    int64_t row;
  };
  std::vector<Case> cases;
  for (const char* kind : testing::kKinds)
    for (const int64_t row : {256, 768}) {  // one and three super-blocks: both an odd count in all
      const auto w = testing::importance(row);
      cases.push_back({testing::tensor(kind, 5 * row, row), {}, row});
      cases.push_back({testing::tensor(kind, 5 * row, row, 2), w, row});
    }
  for (const auto& r : odd_rows(512)) {
    cases.push_back({r, {}, 512});
    cases.push_back({r, testing::importance(512), 512});
  }
  std::vector<float> extreme(256, 0.0f);
  for (size_t i = 0; i < extreme.size(); ++i) extreme[i] = i % 5 == 0 ? 1e38f : i % 3 == 0 ? 1e-40f : 0.0f;
  cases.push_back({testing::tensor("gaussian", 512, 256), extreme, 256});
  cases.push_back({testing::tensor("gaussian", 512, 256), std::vector<float>(256, 0.0f), 256});
  for (const auto& c : cases) {
    const float* w = c.importance.empty() ? nullptr : c.importance.data();
    force_target("scalar");
    const Bytes want = encode(t, c.x, c.row, w);
    const auto values = decode(t, want);
    for (const auto& target : supported_targets()) {
      ASSERT_TRUE(force_target(target));
      ASSERT_EQ(encode(t, c.x, c.row, w), want) << target << " first value " << c.x[0];
      const auto y = decode(t, want);
      ASSERT_EQ(0, std::memcmp(y.data(), values.data(), y.size() * 4)) << target;
    }
  }
}

TEST_P(EachCodec, AnyTilingGivesTheSameBytes) {
  const DType t = GetParam();
  const int64_t row = 768, rows = 7;
  const auto x = testing::tensor("rows", rows * row, row);
  const auto w = testing::importance(row);
  for (const float* importance : {static_cast<const float*>(nullptr), w.data()}) {
    const Bytes whole = encode(t, x, row, importance);
    for (const int64_t step : {1, 2, 3}) {
      Bytes tiled;
      for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = std::min(step, rows - r);
        const Bytes b = encode(t, {x.begin() + r * row, x.begin() + (r + n) * row}, row, importance);
        tiled.insert(tiled.end(), b.begin(), b.end());
      }
      EXPECT_EQ(tiled, whole) << step;
    }
    // Bytes at an odd address.
    Bytes shifted(whole.size() + 1);
    find_codec(t)->encode(x.data(), rows, row, {importance}, shifted.data() + 1);
    EXPECT_EQ(0, std::memcmp(shifted.data() + 1, whole.data(), whole.size()));
    std::vector<float> y(x.size());
    find_codec(t)->decode(shifted.data() + 1, rows * row, y.data());
    EXPECT_EQ(y, decode(t, whole));
  }
  EXPECT_TRUE(encode(t, {}, row).empty());
}

TEST_P(EachCodec, FiniteInFiniteOut) {
  const DType t = GetParam();
  if (find_codec(t)->holds_nonfinite) return;
  const float limit = find_codec(t)->max_abs;
  ASSERT_GE(limit, t == DType::kNVFP4 ? 2688.0f : 65504.0f);  // whose scales are 8 bits
  const auto w = testing::importance(256);
  for (const auto& x : odd_rows(256))
    for (const float* importance : {static_cast<const float*>(nullptr), w.data()}) {
      const auto y = decode(t, encode(t, x, 256, importance));
      ASSERT_EQ(first_nonfinite(y.data(), 256), -1) << x[0];
      float most = 0;
      for (const float v : x) most = std::max(most, std::fabs(v));
      for (size_t i = 0; i < y.size(); ++i) ASSERT_LE(std::fabs(y[i]), most * (coarse(t) ? 1.8f : 1.35f) + 1e-6f) << x[i];
    }
  // What the limit names is stored with the precision of the type, not clamped.
  std::vector<float> x(256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = limit * (static_cast<float>(i % 31) / 15.0f - 1.0f);
  EXPECT_LT(testing::relative_error(x, decode(t, encode(t, x, 256))), coarse(t) ? 0.3 : bits_of(t) < 3.5 ? 0.1 : 0.03);
}

TEST_P(EachCodec, NonfiniteFloatsDoNotCrash) {  // the caller refuses them; garbage in must still be bytes out
  const DType t = GetParam();
  std::vector<float> x(512, 0.5f);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[40] = INFINITY;
  x[300] = -INFINITY;
  const auto y = decode(t, encode(t, x, 512));
  if (find_codec(t)->holds_nonfinite) {
    EXPECT_TRUE(std::isnan(y[3]));
    EXPECT_EQ(y[40], INFINITY);
    EXPECT_EQ(y[300], -INFINITY);
  }
}

TEST_P(EachCodec, ErrorIsBoundedByTheStep) {
  const DType t = GetParam();
  // Levels a block of the type has over the range from -max to max.
  if (coarse(t)) return;
  const double levels = t == DType::kQ8_0   ? 255
                        : t == DType::kQ6_K ? 64
                        : t == DType::kQ5_K || t == DType::kQ5_0 || t == DType::kQ5_1 ? 32
                        : t == DType::kQ3_K || t == DType::kIQ3_S || t == DType::kIQ3_XXS ? 8
                        : t == DType::kQ2_K ? 4
                        : is_block_type(t)  ? 16
                                            : 0;
  if (levels == 0) return;
  for (const char* kind : {"gaussian", "positive", "sparse"}) {
    const auto x = testing::tensor(kind, 256 * 64, 256);
    const auto y = decode(t, encode(t, x, 256));
    for (size_t b = 0; b < x.size(); b += 256) {
      float most = 0, worst = 0;
      for (size_t i = b; i < b + 256; ++i) {
        most = std::max(most, std::fabs(x[i]));
        worst = std::max(worst, std::fabs(x[i] - y[i]));
      }
      ASSERT_LE(worst, 3.2 * most / levels) << kind;  // half a step, and what clipping may give up
    }
  }
}

TEST_P(EachCodec, DecodesAnyBytes) {  // a damaged file may hold any
  const DType t = GetParam();
  Generator g(9);
  Bytes b(static_cast<size_t>(info(t).bytes) * 8);
  for (auto& v : b) v = static_cast<std::byte>(g.next());
  force_target("scalar");
  const auto want = decode(t, b);
  for (const auto& target : supported_targets()) {
    force_target(target);
    const auto y = decode(t, b);
    EXPECT_EQ(0, std::memcmp(y.data(), want.data(), y.size() * 4)) << target;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, EachCodec, ::testing::ValuesIn(kAll),
                         [](const auto& i) { return std::string(ingot::info(i.param).name); });

TEST(Importance, IsHonoured) {
  const int64_t row = 512;
  const auto x = testing::tensor("gaussian", 32 * row, row);
  const auto w = testing::importance(row);
  const std::vector<float> same(row, 4.0f);
  for (const DType t : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const auto plain = decode(t, encode(t, x, row)), weighted = decode(t, encode(t, x, row, w.data()));
    EXPECT_LT(testing::relative_error(x, weighted, w), 0.97 * testing::relative_error(x, plain, w));
    EXPECT_GT(testing::relative_error(x, weighted), testing::relative_error(x, plain));
    // Equal weights say nothing.
    const double e = testing::relative_error(x, decode(t, encode(t, x, row, same.data())));
    EXPECT_NEAR(e / testing::relative_error(x, plain), 1.0, t == DType::kQ4_0 ? 0.02 : 0.005);
  }
}

Bytes block(std::initializer_list<int> head, size_t size) {
  Bytes b(size);
  size_t i = 0;
  for (const int v : head) b[i++] = static_cast<std::byte>(v);
  return b;
}

TEST(HandComputed, Q8_0) {
  Bytes b = block({0x00, 0x38, 1, 0xff, 127, 0x80}, 34);  // d = 0.5
  const auto y = decode(DType::kQ8_0, b);
  EXPECT_EQ(y[0], 0.5f);
  EXPECT_EQ(y[1], -0.5f);
  EXPECT_EQ(y[2], 63.5f);
  EXPECT_EQ(y[3], -64.0f);
  EXPECT_EQ(y[31], 0.0f);
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f;
  x[1] = -2.5f;  // halves to even
  x[2] = 3.5f;
  x[31] = -127.0f;
  find_codec(DType::kQ8_0)->encode(x.data(), 1, 32, {nullptr, Effort::kFast}, b.data());
  EXPECT_EQ(b[0], std::byte{0x00});
  EXPECT_EQ(b[1], std::byte{0x3c});
  EXPECT_EQ(b[2], std::byte{127});
  EXPECT_EQ(b[3], std::byte{0xfe});
  EXPECT_EQ(b[4], std::byte{4});
  EXPECT_EQ(b[33], std::byte{0x81});
}

TEST(HandComputed, Q4_0) {
  const auto y = decode(DType::kQ4_0, block({0x00, 0x3c, 0x0f, 0x80}, 18));  // d = 1
  EXPECT_EQ(y[0], 7.0f);
  EXPECT_EQ(y[16], -8.0f);  // the high nibble is sixteen values on
  EXPECT_EQ(y[1], -8.0f);
  EXPECT_EQ(y[17], 0.0f);
}

TEST(HandComputed, Q4_K) {
  Bytes b(144);
  b[1] = std::byte{0x3c};          // d = 1
  b[3] = std::byte{0x38};          // dmin = 0.5
  b[4] = std::byte{0x02 | 0x40};   // scale of block 0: 2; two high bits of scale 4: 1
  b[8] = std::byte{0x03 | 0x80};   // min of block 0: 3; two high bits of min 4: 2
  b[12] = std::byte{0x0a | 0x50};  // low bits: scale 4 = 10 + 16, min 4 = 5 + 32
  b[16] = std::byte{0xc7};
  b[16 + 64] = std::byte{0x01};
  const auto y = decode(DType::kQ4_K, b);
  EXPECT_EQ(y[0], 2.0f * 7 - 1.5f);
  EXPECT_EQ(y[1], -1.5f);
  EXPECT_EQ(y[32], 0.0f);  // block 1 has neither scale nor min
  EXPECT_EQ(y[128], 26.0f * 1 - 18.5f);
}

TEST(HandComputed, Q5_K) {
  Bytes b(176);
  b[1] = std::byte{0x3c};
  b[4] = b[5] = std::byte{1};  // scales of blocks 0 and 1
  b[16] = std::byte{0x02};     // high bit of value 0 of block 1
  b[48] = std::byte{0x35};
  const auto y = decode(DType::kQ5_K, b);
  EXPECT_EQ(y[0], 5.0f);
  EXPECT_EQ(y[32], 19.0f);
}

TEST(HandComputed, Q6_K) {
  Bytes b(210);
  b[209] = std::byte{0x3c};
  b[192] = std::byte{0xfe};  // scale of block 0: -2
  b[194] = std::byte{3};     // of block 2
  b[200] = std::byte{1};     // of block 8
  b[0] = std::byte{0x21};
  b[128] = std::byte{0x02};
  b[64] = std::byte{0x0f};
  const auto y = decode(DType::kQ6_K, b);
  EXPECT_EQ(y[0], -2.0f * (0x21 - 32));
  EXPECT_EQ(y[32], 3.0f * (0 - 32));
  EXPECT_EQ(y[64], 0.0f);
  EXPECT_EQ(y[128], 15.0f - 32);
}

// The bytes themselves, so that two compilers or machines cannot each be consistent and yet differ. A change
// here means files change: raise Codec::version with it.
TEST(Golden, BytesOfEveryCodec) {
  const struct {
    DType type;
    int version;
    const char* plain;
    const char* weighted;
  } golden[] = {
      {DType::kF32, 1, "9de5f7bc1ea4e8bdae799f38576aaeb6", "9de5f7bc1ea4e8bdae799f38576aaeb6"},
      {DType::kF16, 1, "19748b101796dbce50e98721c0dbefed", "19748b101796dbce50e98721c0dbefed"},
      {DType::kBF16, 1, "355e37f626858907ea5c3f04a52169dd", "355e37f626858907ea5c3f04a52169dd"},
      {DType::kQ8_0, 2, "e7bd0b805404a7b9ee9df8005270ecfb", "4bf693bac71a0c40d85f6e97d971df85"},
      {DType::kQ4_0, 1, "e7563498bca82f55b9d0b9372a1fa97f", "c9857089ab0ff2bed91a483b732cc169"},
      {DType::kQ4_K, 1, "30b5926600fa91171f86177323dd4b20", "ae4525f545c6ba213e59f466ffaf01df"},
      {DType::kQ5_K, 1, "0c6788324def3dc784a3e820062d11ae", "0ef48c19ddb038a51fa4a711196006cd"},
      {DType::kQ6_K, 1, "b9564daa35990c817e88a8fb29a0a4da", "b96063cf466bf853c00ad93edee444af"},
      {DType::kQ4_1, 1, "ecc2928a121e256efccc7e2f2ee75e71", "3deaffaf9725412c923beec6d10ed479"},
      {DType::kQ5_0, 1, "6231201ebeced290476bea8d98165fa5", "7e1fc4b807dd042f710435bf44da8d2c"},
      {DType::kQ5_1, 1, "c83e5440a43c41aceb8a8a88c0adee34", "44c273e1a10226fffd809e4b368dbabb"},
      {DType::kQ2_K, 1, "2ee16ab4d06ed59134c89a1c91804136", "14fa509a9553b3a1f6a37499073b9851"},
      {DType::kQ3_K, 1, "f413d177cf66d5c60087d980b9a2f362", "68328f4d44481d06fe5423887f35d457"},
      {DType::kIQ4_NL, 1, "ffb5afc7f078496a41d2b1e139e80efd", "d074358ad3cd90d7f8f9d82df18b442b"},
      {DType::kIQ4_XS, 1, "b96ca6fba13f447cb5750277404d8181", "1bfaf4d4ce8a426f52cb93623c2ae9f5"},
      {DType::kIQ3_XXS, 1, "2534c1519811e959b0962d3ed02778f1", "5bde8a226f2f128d9bb1614766f03a86"},
      {DType::kIQ3_S, 1, "7a3dd3b49c530a7949d558d276ad4bf9", "5929fca6fa3b5a44bf636d152c01c643"},
      {DType::kIQ2_XXS, 1, "e61a6047bad01ec50fccfee54825e52c", "e05feba7f139229091ae2d28f5c13c0c"},
      {DType::kIQ2_XS, 1, "52eba317fd1cb36afc61df705c9f06cf", "914af7d0f32baa7282a20ef9acf718df"},
      {DType::kIQ2_S, 1, "d7b41b043035ccbce7f75196722e0d15", "9cc43d69e8167b86a87a570cc1ca8ca4"},
      {DType::kIQ1_S, 1, "55f4e524e70cbb66ea0c5c6d74a0b9bf", "5cfee95388c97060e7d903cb331dd002"},
      {DType::kIQ1_M, 1, "aa0ff165eb8ec69137890e2d82dff874", "0779cd661f711ae89b8a90b0bacf270c"},
      {DType::kTQ1_0, 1, "efe9e01acee956f2e4ec4e16653ddfed", "b9cc04560e0e26cfd20aa4c20871fcb3"},
      {DType::kTQ2_0, 1, "3a3280a44477699116611d71a00c21fd", "5482c35efc6bccd20edaba3153ed6e85"},
      {DType::kNVFP4, 1, "c837bb205ff96eb50c8b1bad482f4d73", "ad00a761eff9551dd2d6b7bfb43742e7"},
      {DType::kMXFP4, 1, "c5a5b3860948fc5fe14c93361ccfdb31", "b4dcb8eed8178942c12069fd73a359f4"},
  };
  const auto w = testing::importance(768);
  for (const auto& g : golden) {
    std::vector<float> x;
    for (const char* kind : testing::kKinds) {
      const auto part = testing::tensor(kind, 3 * 768, 768);
      x.insert(x.end(), part.begin(), part.end());
    }
    EXPECT_EQ(find_codec(g.type)->version, g.version);
    EXPECT_EQ(to_hex(hash128(encode(g.type, x, 768))), g.plain) << info(g.type).name;
    EXPECT_EQ(to_hex(hash128(encode(g.type, x, 768, w.data()))), g.weighted) << info(g.type).name;
  }
  EXPECT_EQ(std::size(golden), kAll.size());
}

TEST(Table, NamesWhatItHas) {
  for (const DType t : kAll) EXPECT_EQ(find_codec(t)->type, t);
  EXPECT_EQ(find_codec(DType::kI64), nullptr);
  EXPECT_EQ(find_codec(DType::kF16)->max_abs, 65504.0f);
}

}  // namespace
}  // namespace ingot
