// Importance matrices of both kinds, merged; what is wrong with one is told.
#include "transform/importance.h"

#include "formats/formats.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

NodePtr floats(std::vector<float> v, Shape shape) {
  std::vector<std::byte> bytes(v.size() * 4);
  std::memcpy(bytes.data(), v.data(), bytes.size());
  return make_memory_tensor({DType::kF32, shape}, std::move(bytes));
}

Artifact gguf(std::vector<float> sums, std::vector<float> counts, uint32_t chunks = 3) {
  Artifact a;
  a.path = "a.gguf", a.format = "gguf", a.naming = "imatrix";
  a.metadata = {{"imatrix.datasets", MetaValue{std::vector<std::string>{"wiki.txt"}}}, {"imatrix.chunk_count", MetaValue{chunks}}, {"imatrix.chunk_size", MetaValue{uint32_t{100}}}};
  const auto n = static_cast<int64_t>(counts.size()), values = static_cast<int64_t>(sums.size());
  a.tensors.push_back({"x.weight.in_sum2", floats(std::move(sums), {values})});
  a.tensors.push_back({"x.weight.counts", floats(std::move(counts), {n, 1})});
  return a;
}

Artifact dat(std::vector<float> values, int calls) {
  Artifact a;
  a.path = "a.dat", a.format = a.naming = "imatrix";
  a.values = {{"calls", fmt::format("[{}]", calls)}, {"chunks", "5"}, {"dataset", "\"other.txt\""}};
  const auto n = static_cast<int64_t>(values.size());
  a.tensors.push_back({"x.weight", floats(std::move(values), {n})});
  return a;
}

std::vector<float> of(const Result<Importance>& i) { return i.ok() ? *i->weights.at("x.weight") : std::vector<float>{}; }

TEST(Importance, MeansOfEitherKind) {
  const auto i = read_importance({gguf({10, 20, 30, 40}, {10, 20})});
  ASSERT_TRUE(i.ok()) << i.error().message;
  EXPECT_EQ(of(i), (std::vector<float>{1, 2, 1.5F, 2}));
  EXPECT_EQ(i->dataset, "wiki.txt");
  EXPECT_EQ(i->chunks, 3u);
  EXPECT_TRUE(i->notices.empty());
  EXPECT_EQ(of(read_importance({dat({10, 30}, 10)})), (std::vector<float>{1, 3}));
}

// As if the texts had been read in one run.
TEST(Importance, SeveralAreMerged) {
  const auto two = read_importance({gguf({10, 20}, {10}), gguf({80, 10}, {30})});
  EXPECT_EQ(of(two), (std::vector<float>{90.0F / 40, 30.0F / 40}));
  EXPECT_EQ(two->chunks, 6u);
  // Ten calls of a hundred tokens, as the other file has chunks.
  const auto mixed = read_importance({gguf({1000, 3000}, {1000}), dat({30, 10}, 10)});
  EXPECT_EQ(of(mixed), (std::vector<float>{2, 2}));
  EXPECT_EQ(mixed->files.size(), 2u);
}

TEST(Importance, AnExpertThatWasNeverChosenCountsAllColumnsAlike) {
  const auto i = read_importance({gguf({10, 20, 0, 0}, {10, 0})});
  EXPECT_EQ(of(i), (std::vector<float>{1, 2, 1, 1}));
  ASSERT_EQ(i->notices.size(), 1u);
  EXPECT_NE(i->notices[0].find("matrix 1 of 'x.weight'"), std::string::npos) << i->notices[0];
}

TEST(Importance, WhatIsWrongIsNamed) {
  expect_error(read_importance({gguf({1, NAN}, {1})}), {"a.gguf", "value 1 of 'x.weight.in_sum2' is nan"});
  expect_error(read_importance({gguf({1, -1}, {1})}), {"is -1"});
  expect_error(read_importance({gguf({1, 2, 3}, {1, 1})}), {"3 values", "2 counts"});
  expect_error(read_importance({gguf({1, 2}, {1}), gguf({1, 2, 3}, {1})}), {"3 values", "2", "of different models"});
  expect_error(read_importance({dat({1, 2}, 0)}), {"counted 0 times"});
  Artifact no_counts = gguf({1, 2}, {1});
  no_counts.tensors.edit([](auto& all) { all.pop_back(); });
  expect_error(read_importance({no_counts}), {"has no 'x.weight.counts'"});
  Artifact model;
  model.path = "m.gguf", model.format = "gguf", model.naming = "gguf";
  expect_error(read_importance({model}), {"m.gguf", "it is gguf", "llama-imatrix"});
}

}  // namespace
}  // namespace ingot::transform
