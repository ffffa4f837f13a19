// The block types that plain C++ reads: the values that llama.cpp's gguf package reads from the same bytes (tests/data/make/types_read.py), any bytes, any place.
#include "quant/decode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "quant/levels.h"
#include "quant/test_tensors.h"

namespace ingot {
namespace {

const DType kRead[] = {
#define DECODER(type, name, low, high, min, halves) DType::k##type,
#define READER(type, name, low, high, min, halves)
#include "quant/decoders.def"
#undef READER
#undef DECODER
};

TEST(Decode, TheValuesOfTheReferenceToTheBit) {
  std::ifstream in(INGOT_SOURCE_DIR "/tests/data/quant/types_read.safetensors", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  ASSERT_GT(file.size(), 8u);
  uint64_t n = 0;
  std::memcpy(&n, file.data(), 8);
  const auto header = nlohmann::json::parse(file.substr(8, n));
  const auto bytes = [&](const std::string& name) {
    const auto at = header.at(name).at("data_offsets");
    return file.substr(8 + n + at[0].get<size_t>(), at[1].get<size_t>() - at[0].get<size_t>());
  };
  for (const DType t : kRead) {
    const std::string name(info(t).name), blocks = bytes(name + ".blocks"), values = bytes(name + ".values");
    const auto count = static_cast<int64_t>(values.size() / 4);
    ASSERT_EQ(static_cast<int64_t>(blocks.size()), count / info(t).block * info(t).bytes) << name;
    std::vector<float> want(static_cast<size_t>(count)), got(want.size() + 1, 123.0f);
    std::memcpy(want.data(), values.data(), values.size());
    ASSERT_NE(find_decode(t), nullptr) << name;
    find_decode(t)(reinterpret_cast<const std::byte*>(blocks.data()), count, got.data());
    EXPECT_EQ(got.back(), 123.0f) << name << " is written past its end";
    got.pop_back();
    for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(got[i], want[i]) << name << " value " << i;
  }
  EXPECT_EQ(header.size(), 2 * std::size(kRead));
}

TEST(Decode, AnyBytesAtAnyAddress) {  // a damaged file may hold any
  testing::Generator g(9);
  for (const DType t : kRead) {
    const int64_t blocks = 64, count = blocks * info(t).block;
    std::vector<std::byte> b(static_cast<size_t>(blocks * info(t).bytes) + 1);
    for (auto& v : b) v = static_cast<std::byte>(static_cast<int>(g.uniform() * 256));
    std::vector<float> at_one(static_cast<size_t>(count)), at_zero(at_one.size());
    find_decode(t)(b.data() + 1, count, at_one.data());
    std::memmove(b.data(), b.data() + 1, b.size() - 1);
    find_decode(t)(b.data(), count, at_zero.data());
    EXPECT_EQ(0, std::memcmp(at_one.data(), at_zero.data(), at_one.size() * 4)) << info(t).name;
    std::fill(b.begin(), b.end(), std::byte{0xff});
    find_decode(t)(b.data(), count, at_one.data());
    find_decode(t)(b.data(), 0, nullptr);
  }
}

// Also of the types whose codecs decode by kernels of their own, and what the flags of a type say.
TEST(Decode, IsWhatTheLevelsSay) {
  testing::Generator g(11);
  int types = 0;
  for (int i = 0; i < 64; ++i) {
    const auto t = static_cast<DType>(i);
    const LevelReader* r = find_levels(t);
    if (!r) continue;
    ++types;
    const int64_t values = info(t).block;
    std::vector<std::byte> b(static_cast<size_t>(info(t).bytes));
    std::vector<float> got(static_cast<size_t>(values));
    bool halves = false;
    int low = 0, high = 0;
    for (int repeat = 0; repeat < 200; ++repeat) {
      for (auto& v : b) v = static_cast<std::byte>(static_cast<int>(g.uniform() * 256));
      find_decode(t)(b.data(), values, got.data());
      Levels l = {};
      r->read(reinterpret_cast<const uint8_t*>(b.data()), &l);
      for (int64_t k = 0; k < values; ++k) {
        low = std::min<int>(low, l.level[k]), high = std::max<int>(high, l.level[k]);
        float want = l.scale[k / 16] * static_cast<float>(l.level[k]);
        if (r->min) want -= l.min[k / 16];
        ASSERT_TRUE(got[static_cast<size_t>(k)] == want || std::isnan(want)) << info(t).name << " " << k;
      }
      for (int64_t k = 0; k < values / 16; k += 2) {
        if (std::isnan(l.scale[k]) || (r->min && std::isnan(l.min[k]))) continue;
        halves |= l.scale[k] != l.scale[k + 1] || (r->min && l.min[k] != l.min[k + 1]);
      }
      // What a multiple of d is: the scales' own codes.
      const int64_t groups = l.d != 0 && std::isfinite(l.d) && t != DType::kNVFP4 ? values / 16 : 0;
      for (int64_t k = 0; k < groups; ++k) ASSERT_EQ(std::nearbyint(l.scale[k] / l.d * 8), l.scale[k] / l.d * 8) << info(t).name;
    }
    EXPECT_EQ(halves, r->halves) << info(t).name;
    EXPECT_EQ(low, r->low) << info(t).name;
    EXPECT_EQ(high, r->high) << info(t).name;
  }
  EXPECT_EQ(types, 27);
}

}  // namespace
}  // namespace ingot
