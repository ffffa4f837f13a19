#include "formats/chunked_tensor.h"

#include <random>

#include "formats/formats_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

// Cuts a box into two at random until it has many.
void cut(const Region& box, int times, std::mt19937_64* rng, std::vector<Region>* out) {
  std::vector<int> dims;
  for (int d = 0; d < box.extent.rank; ++d)
    if (box.extent[d] > 1) dims.push_back(d);
  if (times == 0 || dims.empty()) return out->push_back(box);
  const int d = dims[(*rng)() % dims.size()];
  const int64_t at = 1 + static_cast<int64_t>((*rng)() % static_cast<uint64_t>(box.extent[d] - 1));
  Region a = box, b = box;
  a.extent[d] = at, b.extent[d] -= at, b.begin[d] += at;
  cut(a, times - 1, rng, out);
  cut(b, times - 1, rng, out);
}

NodePtr part_of(const std::vector<float>& values, const Shape& shape, const Region& r) {
  std::vector<float> own(static_cast<size_t>(r.elements()));
  for_each_run(Region::all(shape), r, [&](int64_t from, int64_t to, int64_t n) { std::copy_n(values.begin() + from, n, own.begin() + to); });
  return f32_tensor(r.extent, own);
}

TEST(ChunkedTensor, AnyCutGivesTheWhole) {
  std::mt19937_64 rng(7);
  for (const Shape& shape : {Shape{17}, Shape{13, 11}, Shape{5, 7, 9}, Shape{3, 4, 1, 5, 2}, Shape{2000, 700}}) {
    const auto values = random_floats(shape.elements(), 1);
    for (int times : {1, 3, 5}) {
      std::vector<Region> boxes;
      cut(Region::all(shape), times, &rng, &boxes);
      EXPECT_EQ(why_not_filled(shape, boxes), "");
      std::vector<TensorChunk> chunks;
      for (const Region& r : boxes) chunks.push_back({r, std::dynamic_pointer_cast<const Source>(part_of(values, shape, r))});
      const NodePtr node = make_chunked_tensor("w", {DType::kF32, shape}, chunks, nullptr);
      ASSERT_EQ(to_floats(*evaluate(node)), values) << to_string(shape);
      expect_regions_match(node, 10, 3);
    }
  }
}

TEST(ChunkedTensor, WhatIsMissingOrThereTwiceIsFound) {
  std::mt19937_64 rng(3);
  for (const Shape& shape : {Shape{40}, Shape{13, 11}, Shape{5, 7, 9}, Shape{2, 2, 2, 2, 2, 2, 2, 2}})
    for (int i = 0; i < 50; ++i) {
      std::vector<Region> boxes;
      cut(Region::all(shape), 4, &rng, &boxes);
      const Region one = boxes[rng() % boxes.size()];
      auto twice = boxes;
      twice.push_back(one);
      EXPECT_EQ(why_not_filled(shape, twice), fmt::format("element {} lies in 2 chunks", to_string(one.begin)));
      std::erase(boxes, one);
      EXPECT_EQ(why_not_filled(shape, boxes), fmt::format("element {} lies in no chunk", to_string(one.begin)));
    }
  EXPECT_EQ(why_not_filled({0, 5}, {}), "");
  EXPECT_EQ(why_not_filled({}, {Region{}}), "");
  EXPECT_NE(why_not_filled({}, {}), "");
}

}  // namespace
}  // namespace ingot
