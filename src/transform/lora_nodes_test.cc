#include "transform/lora_nodes.h"

#include <cmath>

#include "transform/lora_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

TEST(LoraDelta, RegionsEqualTheWholeAndAnF64Reference) {
  for (bool transposed : {false, true})
    for (int64_t r : {1, 3, 16, 64}) {
      const int64_t out = 37, in = 53;
      const Matrix w = random_matrix(transposed ? in : out, transposed ? out : in, 1), a = random_matrix(r, in, 2, 0.1f),
                   b = random_matrix(out, r, 3, 0.1f);
      const NodePtr n = lora_delta("t", node(w), {node(a), node(b), "a", "b", 0.7, transposed});
      const auto got = values(n);
      for (int64_t i = 0; i < w.rows; ++i)
        for (int64_t j = 0; j < w.cols; ++j)
          ASSERT_NEAR(got[static_cast<size_t>(i * w.cols + j)], exact(w, a, b, 0.7, transposed, i, j), 4e-7 * (1 + std::sqrt(static_cast<double>(r))));
      expect_regions_match(n, 40, 4);
      // Factors and base of other types go through f32.
      const NodePtr low = lora_delta("t", typed_tensor(DType::kBF16, {w.rows, w.cols}, w.v),
                                     {typed_tensor(DType::kF16, {r, in}, a.v), typed_tensor(DType::kBF16, {out, r}, b.v), "a", "b", 0.7, transposed});
      expect_regions_match(low, 20, 5);
    }
}

TEST(LoraDelta, DamagedFactorsAreNamed) {
  const Matrix w = random_matrix(4, 6, 1);
  Matrix a = random_matrix(2, 6, 2), b = random_matrix(4, 2, 3);
  b.v[5] = std::nanf("");
  auto r = evaluate(lora_delta("blk", node(w), {node(a), node(b), "the.lora_A", "the.lora_B", 1, false}));
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
  for (const char* p : {"'blk'", "element [2, 1] of 'the.lora_B' is NaN"})
    EXPECT_NE(r.error().message.find(p), std::string::npos) << r.error().message;
  // Factors of an [in, out] base are used transposed; the element is the file's all the same.
  std::swap(b.v[5], b.v[0]);
  a.v[9] = INFINITY;
  const Matrix turned = random_matrix(6, 4, 1);
  r = evaluate(lora_delta("blk", node(turned), {node(a), node(b), "the.lora_A", "the.lora_B", 1, true}),
               Region{{3, 1}, {2, 2}});
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("element [1, 3] of 'the.lora_A' is infinity"), std::string::npos) << r.error().message;
}

TEST(LoraDelta, AnUpdateThatOverflowsNamesTheBasesElement) {
  Matrix w = random_matrix(70, 30, 1);
  Matrix a{1, 30, std::vector<float>(30, 0)}, b{70, 1, std::vector<float>(70, 0)};
  a.v[7] = b.v[63] = 1e25f;
  w.v[5] = std::nanf("");  // the base's own
  auto r = evaluate(lora_delta("blk", node(w), {node(a), node(b), "a", "b", 1, false}));
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("element [63, 7] of 'blk'"), std::string::npos) << r.error().message;
}

TEST(LoraNodes, AddScaledAndSameAs) {
  const auto x = random_floats(40000, 1), y = random_floats(40000, 2);
  const NodePtr sum = add_scaled(f32_tensor({40000}, x), f32_tensor({40000}, y), 0.25);
  const auto got = values(sum);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], x[i] + 0.25f * y[i]);
  expect_regions_match(sum, 20, 3);
  const std::vector<float> v = {1, 0.5f, -2};
  EXPECT_EQ(values(same_as(f32_tensor({3}, v), typed_tensor(DType::kBF16, {3}, v), {"t", "copy", "no"})), v);
  auto r = evaluate(same_as(f32_tensor({3}, v), f32_tensor({3}, {1, 0.5f, -3}), {"merging", "copy", "no"}));
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("merging: element [2] of 'copy' is -3 and element [2] of 'the base' is -2; no"), std::string::npos) << r.error().message;
}

TEST(LoraNodes, TurnedNarrowedAndFiniteByRegions) {
  const Matrix m = random_matrix(37, 53, 1);
  const NodePtr t = turned(typed_tensor(DType::kBF16, {m.rows, m.cols}, m.v));
  const auto low = values(typed_tensor(DType::kBF16, {m.rows, m.cols}, m.v)), got = values(t);
  ASSERT_TRUE(t->spec().shape == (Shape{m.cols, m.rows}));
  for (int64_t i = 0; i < m.rows; ++i)
    for (int64_t j = 0; j < m.cols; ++j) ASSERT_EQ(got[static_cast<size_t>(j * m.rows + i)], low[static_cast<size_t>(i * m.cols + j)]);
  expect_regions_match(t, 20, 1);
  const NodePtr f = finite(node(m), "m");
  EXPECT_EQ(values(f), m.v);
  expect_regions_match(f, 20, 2);
}

}  // namespace
}  // namespace ingot::transform
