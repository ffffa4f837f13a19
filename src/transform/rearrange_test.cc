// Nodes that move elements: each on random regions against the plain loop, and back to what it was.
#include "transform/rearrange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "exec/evaluate.h"
#include "exec/exec_testing.h"
#include "formats/file_tensor.h"
#include "tensor/artifact.h"
#include "transform/content_hash.h"

namespace ingot::transform {
namespace {

NodePtr numbered(const Shape& shape, int from = 0) {
  std::vector<std::byte> bytes(static_cast<size_t>(shape.elements()) * 4);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const auto x = static_cast<float>(from + i);
    std::memcpy(bytes.data() + i * 4, &x, 4);
  }
  return make_memory_tensor({DType::kF32, shape}, std::move(bytes));
}

std::vector<float> values(const NodePtr& node, const Region& region) {
  const auto bytes = evaluate(node, region);
  EXPECT_TRUE(bytes.ok()) << bytes.error().message;
  std::vector<float> out(static_cast<size_t>(region.elements()));
  if (bytes.ok() && !out.empty()) std::memcpy(out.data(), bytes->data(), bytes->size());
  return out;
}
std::vector<float> values(const NodePtr& node) { return values(node, Region::all(node->spec().shape)); }

// Any region has what the whole has there.
void expect_regions(const NodePtr& node) {
  const Shape shape = node->spec().shape;
  const auto whole = values(node);
  std::mt19937 random(1);
  const auto below = [&](int64_t n) { return n > 0 ? static_cast<int64_t>(random() % static_cast<uint64_t>(n)) : 0; };
  for (int n = 0; n < 40; ++n) {
    Region r = Region::all(shape);
    for (int i = 0; i < shape.rank; ++i) {
      r.begin[i] = below(shape[i]);
      r.extent[i] = 1 + below(shape[i] - r.begin[i]);
    }
    const auto part = values(node, r);
    for (int64_t k = 0; k < r.elements(); ++k) {
      const Shape at = index_in(r, k);
      int64_t flat = 0;
      for (int i = 0; i < shape.rank; ++i) flat = flat * shape[i] + at[i];
      ASSERT_EQ(part[static_cast<size_t>(k)], whole[static_cast<size_t>(flat)]) << node->describe() << " " << to_string(r);
    }
  }
}

TEST(Rearrange, ConcatenatesAlongEachDimensionAndCutsAgain) {
  for (const int axis : {0, 1, 2}) {
    std::vector<NodePtr> parts;
    for (const int64_t n : {3, 1, 4}) {
      Shape s{3, 4, 5};
      s[axis] = n;
      parts.push_back(numbered(s, static_cast<int>(n) * 1000));
    }
    const NodePtr joined = *concatenate(parts, axis);
    EXPECT_EQ(joined->spec().shape[axis], 8);
    expect_regions(joined);
    int64_t at = 0;
    for (const auto& p : parts) {
      const int64_t n = p->spec().shape[axis];
      const NodePtr again = *slice(joined, axis, at, n);
      EXPECT_EQ(values(again), values(p));
      expect_regions(again);
      at += n;
    }
  }
}

TEST(Rearrange, StacksAndSelects) {
  const std::vector<NodePtr> parts = {numbered({3, 5}), numbered({3, 5}, 100), numbered({3, 5}, 200)};
  const NodePtr stacked = *stack(parts);
  EXPECT_EQ(stacked->spec().shape, (Shape{3, 3, 5}));
  expect_regions(stacked);
  for (int64_t k = 0; k < 3; ++k) {
    const NodePtr one = *select(stacked, k);
    EXPECT_EQ(values(one), values(parts[static_cast<size_t>(k)]));
    expect_regions(one);
  }
}

TEST(Rearrange, Transposes) {
  const NodePtr in = numbered({37, 19}), turned = *transpose(in);
  EXPECT_EQ(turned->spec().shape, (Shape{19, 37}));
  const auto a = values(in), b = values(turned);
  for (size_t i = 0; i < 37; ++i)
    for (size_t k = 0; k < 19; ++k) ASSERT_EQ(b[k * 37 + i], a[i * 19 + k]);
  expect_regions(turned);
  EXPECT_EQ(values(*transpose(turned)), a);
}

TEST(Rearrange, RegroupsRows) {
  // 2 heads, each q, k, v of 2 rows.
  const NodePtr in = numbered({12, 3}), out = *regroup_rows(in, 2, 3);
  const auto a = values(in), b = values(out);
  const size_t rows[] = {0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11};
  for (size_t r = 0; r < 12; ++r)
    for (size_t c = 0; c < 3; ++c) EXPECT_EQ(b[r * 3 + c], a[rows[r] * 3 + c]) << r;
  expect_regions(out);
  EXPECT_EQ(values(*regroup_rows(out, 3, 2)), a);
  EXPECT_EQ(values(*regroup_rows(*regroup_rows(numbered({12}), 2, 3), 3, 2)), values(numbered({12})));
}

TEST(Rearrange, AnElementIsTracedToItsSource) {
  const NodePtr node = *slice(*concatenate({*transpose(numbered({4, 6})), *select(*stack({numbered({2, 4}), numbered({2, 4})}), 1)}, 0), 0, 2, 6);
  EXPECT_EQ(origin_of(*node, {5, 3}).index, (Shape{1, 3}));  // row 7 of 8: of the second
  EXPECT_EQ(origin_of(*node, {1, 3}).index, (Shape{3, 3}));  // row 3, column 3 of the transposed
}

// 134 MB in 16 MB of memory: a tile of the transposed is some columns of the file, and what lies between them is not read for each.
using RearrangedFiles = testing::LocalTest;
TEST_F(RearrangedFiles, ATransposeInLittleMemoryReadsAtMostTwiceItsBytes) {
  for (const TensorSpec& spec : {TensorSpec{DType::kF32, {4096, 8192}}, TensorSpec{DType::kBF16, {2048, 32768}}, TensorSpec{DType::kF16, {32768, 2048}}}) {
    const uint64_t bytes = bytes_of(spec);
    const std::string path = at("w");
    std::ofstream(path, std::ios::binary).close();
    std::filesystem::resize_file(path, bytes);  // sparse
    auto file = local_store().open(path);
    ASSERT_TRUE(file.ok());
    const auto source = std::make_shared<SourceFile>(SourceFile{std::shared_ptr<const ReadFile>(std::move(*file)), path, ""});
    Artifact a;
    a.tensors.push_back({"w", *transpose(make_file_tensor(source, "w", 0, spec))});
    const auto journal = make_memory_store();
    ExecOptions o;
    o.threads = 2, o.memory = 16 << 20;
    o.journal_store = journal.get(), o.journal_path = "journal";
    const auto hashed = content_hash(a);
    ASSERT_TRUE(hashed.ok());
    const auto report = run_job({hashed->output}, o);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_LE(report->source_bytes, 2 * bytes);
  }
}

TEST(Rearrange, WhatDoesNotFitIsRefused) {
  EXPECT_FALSE(concatenate({}, 0).ok());
  EXPECT_FALSE(concatenate({numbered({2, 3}), numbered({2, 4})}, 0).ok());
  EXPECT_FALSE(concatenate({numbered({2, 3})}, 2).ok());
  EXPECT_FALSE(stack({numbered({2, 3}), numbered({3, 2})}).ok());
  EXPECT_FALSE(slice(numbered({4}), 0, 3, 2).ok());
  EXPECT_FALSE(slice(numbered({4}), 0, -1, 2).ok());
  EXPECT_FALSE(select(numbered({4}), 0).ok());
  EXPECT_FALSE(select(numbered({4, 2}), 4).ok());
  EXPECT_FALSE(transpose(numbered({2, 2, 2})).ok());
  EXPECT_FALSE(transpose(make_memory_tensor({DType::kQ8_0, {2, 32}}, std::vector<std::byte>(68))).ok());
  EXPECT_FALSE(regroup_rows(numbered({10, 2}), 2, 3).ok());
  EXPECT_FALSE(slice(make_memory_tensor({DType::kQ8_0, {2, 64}}, std::vector<std::byte>(136)), 1, 16, 32).ok());
}

TEST(Rearrange, RowsOfGroupsAreEachGroupsOwn) {
  const NodePtr fused = numbered({12, 5});  // three groups: two rows of q, one of k, one of v
  struct Part {
    int64_t begin, take;
    std::vector<int64_t> rows;
  };
  for (const Part& p : {Part{0, 2, {0, 1, 4, 5, 8, 9}}, {2, 1, {2, 6, 10}}, {3, 1, {3, 7, 11}}}) {
    const auto node = rows_of_groups(fused, 3, p.begin, p.take);
    ASSERT_TRUE(node.ok()) << node.error().message;
    EXPECT_EQ((*node)->spec().shape, (Shape{static_cast<int64_t>(p.rows.size()), 5}));
    const auto v = values(*node);
    for (size_t i = 0; i < v.size(); ++i) EXPECT_EQ(v[i], static_cast<float>(p.rows[i / 5] * 5 + static_cast<int64_t>(i % 5)));
    expect_regions(*node);
    EXPECT_EQ(origin_of(**node, {2, 1}).index, (Shape{p.rows[2], 1}));
  }
  EXPECT_FALSE(rows_of_groups(fused, 5, 0, 1).ok());
  EXPECT_FALSE(rows_of_groups(fused, 3, 3, 2).ok());
  EXPECT_FALSE(rows_of_groups(fused, 3, 0, 0).ok());
}

}  // namespace
}  // namespace ingot::transform
