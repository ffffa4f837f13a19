// Casts: every f16, edge values, random bit patterns, tails; every target against the scalar reference and an
// independent definition.
#include "kernels/cast.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/dispatch.h"

namespace ingot {
namespace {

class Casts : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(force_target(GetParam())); }
  void TearDown() override { force_target(""); }
};

double f16_value(uint16_t h) {
  const int e = h >> 10 & 31, m = h & 1023;
  const double v = e == 0 ? std::ldexp(m, -24) : std::ldexp(1024 + m, e - 25);
  return h & 0x8000 ? -v : v;
}

TEST_P(Casts, EveryF16HasItsValueAndComesBack) {
  std::vector<uint16_t> h(65536), back(65536);
  for (int i = 0; i < 65536; ++i) h[i] = static_cast<uint16_t>(i);
  std::vector<float> x(65536);
  f16_to_f32(h.data(), 65536, x.data());
  f32_to_f16(x.data(), 65536, back.data());
  for (int i = 0; i < 65536; ++i) {
    const bool special = (i & 0x7c00) == 0x7c00, nan = special && (i & 0x3ff);
    if (nan) {
      EXPECT_TRUE(std::isnan(x[i]));
      EXPECT_EQ(back[i], i | 0x200);  // made quiet, all else kept
    } else {
      if (special)
        EXPECT_EQ(x[i], i & 0x8000 ? -INFINITY : INFINITY);
      else
        EXPECT_EQ(x[i], f16_value(h[i]));
      EXPECT_EQ(back[i], i);
    }
    if (!nan) {
      EXPECT_EQ(float_from_f16(h[i]), x[i]);
    }
  }
}

TEST_P(Casts, F16RoundsToNearestEven) {
  // The midpoint of every two neighbours, and the floats just beside it.
  std::vector<float> x;
  std::vector<uint16_t> want;
  for (int i = 0; i < 0x7bff; ++i) {
    const float mid = static_cast<float>(
        (f16_value(static_cast<uint16_t>(i)) + f16_value(static_cast<uint16_t>(i + 1))) / 2);
    for (const float sign : {1.0f, -1.0f}) {
      const uint16_t s = sign < 0 ? 0x8000 : 0;
      x.insert(x.end(), {sign * mid, sign * std::nextafter(mid, 0.0f), sign * std::nextafter(mid, INFINITY)});
      want.insert(want.end(), {static_cast<uint16_t>(s | (i + (i & 1))), static_cast<uint16_t>(s | i),
                               static_cast<uint16_t>(s | (i + 1))});
    }
  }
  x.insert(x.end(),
           {65504.0f, 65519.99f, 65520.0f, 1e38f, -65520.0f, 0x1p-25f, 0x1.000002p-25f, 1e-45f, -0.0f});
  want.insert(want.end(), {0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0, 1, 0, 0x8000});
  std::vector<uint16_t> got(x.size());
  f32_to_f16(x.data(), static_cast<int64_t>(x.size()), got.data());
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], want[i]) << x[i];
}

TEST_P(Casts, Bf16RoundsToNearestEvenAndKeepsNaN) {
  const struct {
    uint32_t in;
    uint16_t out;
  } cases[] = {{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82},
               {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
               {0xffffffff, 0xffff}, {0x7fc00000, 0x7fc0}, {0x00000001, 0x0000}, {0x80000000, 0x8000},
               {0x00018000, 0x0002}, {0x00008000, 0x0000}};
  for (const auto& c : cases) {
    float x[3] = {1.0f, std::bit_cast<float>(c.in), 1.0f};
    uint16_t h[3];
    f32_to_bf16(x, 3, h);
    EXPECT_EQ(h[1], c.out) << std::hex << c.in;
    EXPECT_EQ(h[2], 0x3f80);
    float back[3];
    bf16_to_f32(h, 3, back);
    EXPECT_EQ(std::bit_cast<uint32_t>(back[1]), static_cast<uint32_t>(c.out) << 16);
  }
}

TEST_P(Casts, RandomBitsGiveTheScalarBytesAtEveryLength) {
  uint64_t s = 42;
  std::vector<float> x(20011);
  for (auto& v : x) {
    s = s * 6364136223846793005u + 1442695040888963407u;
    v = std::bit_cast<float>(static_cast<uint32_t>(s >> 32));
  }
  const auto run = [&](int64_t n, const std::string& target) {
    force_target(target);
    std::vector<uint16_t> f(n + 1, 0xabab), b(n + 1, 0xabab);
    f32_to_f16(x.data(), n, f.data());
    f32_to_bf16(x.data(), n, b.data());
    EXPECT_EQ(f[n], 0xabab);  // nothing written past the end
    EXPECT_EQ(b[n], 0xabab);
    f.insert(f.end(), b.begin(), b.end());
    return f;
  };
  for (int64_t n = 0; n < 70; ++n) EXPECT_EQ(run(n, "scalar"), run(n, GetParam())) << n;
  EXPECT_EQ(run(20011, "scalar"), run(20011, GetParam()));
}

TEST_P(Casts, FindsTheFirstNonfinite) {
  for (const float bad : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()})
    for (int64_t n : {1, 15, 16, 17, 33, 100})
      for (int64_t at = 0; at < n; ++at) {
        std::vector<float> x(static_cast<size_t>(n), 3e38f);
        EXPECT_EQ(first_nonfinite(x.data(), n), -1);
        x[static_cast<size_t>(at)] = bad;
        EXPECT_EQ(first_nonfinite(x.data(), n), at);
        EXPECT_EQ(count_nonfinite(x.data(), n), 1);
        x[0] = bad;
        EXPECT_EQ(first_nonfinite(x.data(), n), 0);
        EXPECT_EQ(count_nonfinite(x.data(), n), at == 0 ? 1 : 2);
      }
  EXPECT_EQ(first_nonfinite(nullptr, 0), -1);
}

TEST_P(Casts, FindsTheFirstBeyondALimit) {
  for (const float bad : {1000.5f, -1001.0f, INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()})
    for (int64_t n : {1, 15, 16, 17, 33})
      for (int64_t at = 0; at < n; ++at) {
        std::vector<float> x(static_cast<size_t>(n), at % 2 ? 1000.0f : -1000.0f);
        EXPECT_EQ(first_beyond(x.data(), n, 1000.0f), -1);
        x[static_cast<size_t>(at)] = bad;
        EXPECT_EQ(first_beyond(x.data(), n, 1000.0f), at);
      }
}

INSTANTIATE_TEST_SUITE_P(Targets, Casts, ::testing::ValuesIn(supported_targets()),
                         [](const auto& i) { return i.param; });

TEST(Dispatch, ForcesOnlyWhatTheMachineHas) {
  const Target best = active_target();
  EXPECT_FALSE(force_target("sse9"));
  EXPECT_EQ(active_target(), best);
  EXPECT_TRUE(force_target("scalar"));
  EXPECT_EQ(active_target(), Target::kScalar);
  EXPECT_TRUE(force_target(""));
  EXPECT_EQ(active_target(), best);
  EXPECT_EQ(supported_targets().front(), "scalar");
}

}  // namespace
}  // namespace ingot
