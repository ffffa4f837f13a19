// Shapes, regions and types.
#include <gtest/gtest.h>

#include <set>

#include "tensor/artifact.h"
#include "tensor/shape.h"

namespace ingot {
namespace {

TEST(Types, NamesAndIdsAreUniqueAndFound) {
  std::set<std::string_view> names;
  std::set<int> ids;
#define TYPE(e, n, block, bytes, ggml, st)                    \
  EXPECT_TRUE(names.insert(info(DType::e).name).second) << n; \
  EXPECT_TRUE(ggml < 0 || ids.insert(ggml).second) << n;      \
  EXPECT_EQ(dtype_by_name(n), DType::e);                      \
  EXPECT_TRUE(ggml < 0 || dtype_by_ggml_id(ggml) == DType::e); \
  EXPECT_TRUE(!*st || dtype_by_st_name(st) == DType::e);
#include "tensor/types.def"
#undef TYPE
  EXPECT_EQ(dtype_by_name("q4_k"), DType::kQ4_K);
  EXPECT_EQ(dtype_by_name("Q4"), std::nullopt);
  EXPECT_EQ(dtype_by_ggml_id(-1), std::nullopt);
  EXPECT_EQ(dtype_by_st_name(""), std::nullopt);
}

TEST(Region, RunsCoverTheRegionInOrder) {
  const Region whole = Region::all({4, 5, 6});
  for (const Region& r : {Region{{1, 0, 0}, {2, 5, 6}}, Region{{0, 2, 0}, {4, 2, 6}}, Region{{1, 1, 2}, {2, 3, 3}},
                          Region{{3, 4, 5}, {1, 1, 1}}, whole}) {
    int64_t done = 0;
    std::set<int64_t> seen;
    for_each_run(whole, r, [&](int64_t at, int64_t to, int64_t n) {
      EXPECT_EQ(to, done);
      done += n;
      for (int64_t i = 0; i < n; ++i) seen.insert(at + i);
    });
    EXPECT_EQ(done, r.elements());
    EXPECT_EQ(static_cast<int64_t>(seen.size()), r.elements());
    for (int64_t e : seen) {
      EXPECT_TRUE(contains(r, {{e / 30, e / 6 % 5, e % 6}, {1, 1, 1}}));
    }
  }
}

TEST(Region, ScalarsAndEmptyOnes) {
  int runs = 0;
  for_each_run(Region::all({}), Region::all({}), [&](int64_t at, int64_t to, int64_t n) {
    EXPECT_EQ(at + to, 0);
    EXPECT_EQ(n, 1);
    ++runs;
  });
  for_each_run(Region::all({0, 3}), Region::all({0, 3}), [&](int64_t, int64_t, int64_t) { ++runs; });
  EXPECT_EQ(runs, 1);
}

TEST(Region, ContiguityAndOverlap) {
  const Region whole = Region::all({4, 6});
  int64_t first = -1;
  EXPECT_TRUE(contiguous_in(whole, Region::rows({4, 6}, 2, 2), &first));
  EXPECT_EQ(first, 12);
  EXPECT_TRUE(contiguous_in(whole, {{1, 2}, {1, 3}}, &first));
  EXPECT_EQ(first, 8);
  EXPECT_FALSE(contiguous_in(whole, {{1, 2}, {2, 3}}, &first));
  EXPECT_TRUE(intersects({{0, 0}, {2, 2}}, {{1, 1}, {2, 2}}));
  EXPECT_FALSE(intersects({{0, 0}, {2, 2}}, {{2, 0}, {2, 2}}));
  EXPECT_EQ(bounding({{0, 0}, {1, 1}}, {{2, 3}, {1, 2}}), (Region{{0, 0}, {3, 5}}));
}

TEST(Identity, DependsOnContentAndGraph) {
  auto tensor = [](uint8_t v) { return make_memory_tensor({DType::kU8, {2}}, {std::byte{v}, std::byte{2}}); };
  EXPECT_EQ(graph_identity(*tensor(1)), graph_identity(*tensor(1)));
  EXPECT_NE(graph_identity(*tensor(1)), graph_identity(*tensor(3)));
}

NodePtr byte(uint8_t v) { return make_memory_tensor({DType::kU8, {1}}, {std::byte{v}}); }

// Whatever was done to the list: each name is found where it first stands, and no other is.
void expect_found(const TensorList& all) {
  std::set<std::string_view> seen;
  for (size_t i = 0; i < all.size(); ++i)
    if (seen.insert(all[i].name).second) {
      EXPECT_EQ(all.find(all[i].name), &all[i]) << all[i].name;
    }
  for (const char* none : {"", "t", "gone", "t10000"}) EXPECT_EQ(all.find(none), nullptr) << none;
}

TEST(TensorList, FindsByNameWhateverWasDoneToIt) {
  TensorList all;
  EXPECT_EQ(all.find("t0"), nullptr);
  for (int i = 0; i < 1000; ++i) {
    all.push_back({fmt::format("t{}", i), byte(static_cast<uint8_t>(i))});
    if (i % 100 == 7) expect_found(all);
  }
  all.push_back({"t5", byte(5)});  // a file may have a name twice: the first is found
  expect_found(all);
  const NodePtr other = byte(9);
  all.node(3) = other;
  EXPECT_EQ(all.find("t3")->node, other);
  const TensorList before = all;
  all.edit([&](auto& v) {
    v.insert(v.begin(), {"first", other});
    std::erase_if(v, [](const LazyTensor& t) { return t.name.ends_with("3"); });
    v[1].name = "renamed";
  });
  expect_found(all);
  EXPECT_EQ(all.find("t3"), nullptr);
  EXPECT_EQ(all.find("t0"), nullptr);
  EXPECT_NE(all.find("renamed"), nullptr);
  expect_found(before);
  TensorList moved = std::move(all);
  expect_found(moved);
  all = {{"a", other}, {"b", other}};
  EXPECT_EQ(all.find("b"), &all[1]);
  all = std::vector<LazyTensor>(50000, {"same", other});
  EXPECT_EQ(all.find("same"), &all[0]);
}

TEST(TensorList, AMovedOneIsEmptyAndUsable) {
  TensorList all = {{"a", byte(1)}};
  const TensorList taken = std::move(all);
  EXPECT_EQ(all.find("a"), nullptr);  // NOLINT: what is left must be sound
  all.push_back({"b", byte(2)});
  EXPECT_EQ(all.find("b"), &all[0]);
  EXPECT_EQ(taken.find("a"), &taken[0]);
}

}  // namespace
}  // namespace ingot
