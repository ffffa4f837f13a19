#include "kernels/crc32.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "kernels/dispatch.h"

namespace ingot {
namespace {

// The definition, a bit at a time.
uint32_t by_bits(ByteView bytes) {
  uint32_t c = ~0u;
  for (const std::byte b : bytes) {
    c ^= std::to_integer<uint32_t>(b);
    for (int i = 0; i < 8; ++i) c = c & 1 ? c >> 1 ^ 0xEDB88320 : c >> 1;
  }
  return ~c;
}

std::string random_text(size_t n) {
  std::mt19937 random(n ? static_cast<unsigned>(n) : 1u);
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(random());
  return s;
}

TEST(Crc32, TheCheckValueOfTheStandard) {
  EXPECT_EQ(crc32(as_bytes("123456789")), 0xCBF43926u);
  EXPECT_EQ(crc32({}), 0u);
}

TEST(Crc32, EveryTargetAtEveryLengthAndAddress) {
  const std::string all = random_text(700);
  for (const std::string& target : supported_targets()) {
    ASSERT_TRUE(force_target(target));
    for (size_t from = 0; from < 17; ++from)
      for (size_t n = 0; from + n <= all.size(); n += n < 300 ? 1 : 37) {
        const ByteView v = as_bytes(all).subspan(from, n);
        ASSERT_EQ(crc32(v), by_bits(v)) << target << " " << from << " " << n;
      }
  }
  force_target("");
}

TEST(Crc32, PiecesInAnyOrder) {
  const std::string all = random_text(5000);
  const ByteView v = as_bytes(all);
  for (size_t cut : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{2500}, size_t{4999}, size_t{5000}}) {
    EXPECT_EQ(crc32(v.subspan(cut), crc32(v.first(cut))), crc32(v)) << cut;
    EXPECT_EQ(crc32_joined(crc32(v.first(cut)), crc32(v.subspan(cut)), v.size() - cut), crc32(v)) << cut;
  }
}

TEST(Crc32, EightGigabytesOfZeros) {
  uint32_t c = crc32(as_bytes(std::string(1, '\0')));
  for (uint64_t n = 1; n < uint64_t{1} << 33; n *= 2) c = crc32_joined(c, c, n);
  EXPECT_EQ(c, 0x41D912FFu);  // as zlib has it
}

}  // namespace
}  // namespace ingot
