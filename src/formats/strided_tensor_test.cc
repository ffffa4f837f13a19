#include "formats/strided_tensor.h"

#include "formats/formats_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class Strided : public ::testing::Test {
 protected:
  // A file of so many bytes, each another as far as there are.
  void file(size_t bytes) {
    bytes_.resize(bytes);
    for (size_t i = 0; i < bytes; ++i) bytes_[i] = static_cast<char>(i * 167 + i / 251);
    put_file(*store_, "f", bytes_);
    source_ = std::make_shared<SourceFile>();
    source_->path = std::string("f"), source_->file = *store_->open("f");
  }
  NodePtr node(const StridedView& v) { return make_strided_tensor(source_, "w", v); }
  // Element by element.
  std::string want(const StridedView& v) const {
    const auto item = static_cast<size_t>(info(v.spec.type).bytes);
    std::string out;
    for (int64_t i = 0; i < v.spec.shape.elements(); ++i) {
      const Shape index = index_in(Region::all(v.spec.shape), i);
      size_t at = 0;
      for (int d = 0; d < index.rank; ++d) at += static_cast<size_t>(index[d] * v.strides[static_cast<size_t>(d)]);
      out += bytes_.substr(v.offset + at * item, item);
    }
    return out;
  }
  // Bytes that reading the region takes from the file.
  static uint64_t cost(const NodePtr& node, const Region& r) {
    std::vector<std::byte> out(bytes_of(node->spec().type, r.elements()));
    const auto read = dynamic_cast<const Source*>(node.get())->read(r, out);
    EXPECT_TRUE(read.ok());
    return read.ok() ? *read : 0;
  }

  std::unique_ptr<Store> store_ = make_memory_store();
  std::string bytes_;
  std::shared_ptr<SourceFile> source_;
};

TEST_F(Strided, AnyViewHasTheValuesOfItsPlaces) {
  file(1 << 16);
  std::mt19937_64 rng(7);
  const DType types[] = {DType::kU8, DType::kF16, DType::kF32, DType::kC64};
  for (int round = 0; round < 400; ++round) {
    StridedView v;
    v.spec.type = types[rng() % 4], v.offset = rng() % 64;
    const int rank = static_cast<int>(rng() % 5);
    for (int d = 0; d < rank; ++d) {
      v.spec.shape.push_back(static_cast<int64_t>(rng() % 7 + (round % 50 != 0)));
      // None, neighbours, rows that overlap, and far ones.
      const int64_t strides[] = {0, 1, 2, 3, static_cast<int64_t>(rng() % 40), static_cast<int64_t>(rng() % 300)};
      v.strides[static_cast<size_t>(d)] = strides[rng() % 6];
    }
    uint64_t reach = 0;
    ASSERT_TRUE(v.reach(&reach));
    ASSERT_LE(v.offset + reach * 8, bytes_.size());
    const NodePtr n = node(v);
    const auto all = evaluate(n);
    ASSERT_TRUE(all.ok()) << all.error().message;
    ASSERT_TRUE(as_text(*all) == want(v)) << round << " " << n->describe() << " " << to_string(v.spec.shape);
    if (v.spec.shape.elements() > 0) expect_regions_match(n, 5, static_cast<uint64_t>(round));
  }
}

TEST_F(Strided, WhatIsReadIsAboutWhatIsNeeded) {
  file(4 << 20);  // 1024 rows of 1024 values
  StridedView turned{0, {DType::kF32, {1024, 1024}}, {1, 1024}};
  const NodePtr n = node(turned);
  EXPECT_EQ(cost(n, Region::all(turned.spec.shape)), 4u << 20);
  EXPECT_LE(cost(n, Region::rows(turned.spec.shape, 64, 128)), 2 * 128 * 1024 * 4u) << "a panel of columns";
  EXPECT_LE(cost(n, Region::rows(turned.spec.shape, 64, 1)), 2 * 1024 * 4u) << "one column";
  EXPECT_EQ(cost(n, {{0, 7}, {1024, 3}}), 3 * 1024 * 4u) << "rows of the file";
  // Every third value of each second row: rows that are not wanted are not read.
  StridedView every{0, {DType::kF32, {512, 300}}, {2048, 3}};
  EXPECT_LE(cost(node(every), Region::all(every.spec.shape)), 2 * 512 * 900 * 4u);
  // One value for all, a row for all.
  StridedView one{40, {DType::kF32, {1000, 1000}}, {0, 0}};
  EXPECT_EQ(cost(node(one), Region::all(one.spec.shape)), 4u);
  StridedView row{0, {DType::kF32, {1000, 1024}}, {0, 1}};
  EXPECT_EQ(cost(node(row), Region::all(row.spec.shape)), 4096u);
}

TEST_F(Strided, BytesAreTurnedOnTheWay) {
  file(64);
  const auto bytes = [&](StridedView v) {
    const NodePtr n = node(v);
    expect_regions_match(n, 4, 3);
    return std::string(as_text(*evaluate(n)));
  };
  StridedView v{0, {DType::kF32, {2}}, {1}};
  v.swap = true;
  EXPECT_EQ(bytes(v), std::string(bytes_.rend() - 4, bytes_.rend()) + std::string(bytes_.rend() - 8, bytes_.rend() - 4));
  const auto flipped = [&](std::initializer_list<size_t> at) {
    std::string s = bytes_.substr(0, 16);
    for (size_t i : at) s[i] = static_cast<char>(s[i] ^ 0x80);
    return s;
  };
  StridedView complex{0, {DType::kC64, {2}}, {1}};
  complex.conjugate = true;
  EXPECT_EQ(bytes(complex), flipped({7, 15}));
  complex.negate = true;
  EXPECT_EQ(bytes(complex), flipped({3, 11}));
  StridedView pairs{0, {DType::kF32, {2, 2}}, {2, 1}};
  pairs.conjugate = true;
  EXPECT_EQ(bytes(pairs), flipped({7, 15}));
}

}  // namespace
}  // namespace ingot
