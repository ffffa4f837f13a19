// The figures of --stats: by hand on a few columns, and of llama-imatrix's file of the bundled model against a computation of their definitions in Python.
#include "calibrate/importance_statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/formats.h"
#include "storage/store.h"

namespace ingot::calibrate {
namespace {

const TensorStatistics* find(const std::vector<TensorStatistics>& all, const std::string& name) {
  for (const auto& s : all)
    if (s.name == name) return &s;
  ADD_FAILURE() << name;
  return nullptr;
}

TEST(ImportanceStatistics, OfAFewColumns) {
  transform::ImportanceSums sums;
  sums.entries["blk.0.ffn_up_exps.weight"] = {{2, 6, 1, 1, 0, 0}, {2, 0, 1}, ""};
  sums.entries["blk.1.ffn_up_exps.weight"] = {{4, 12, 2, 2, 0, 0}, {1, 1, 1}, ""};
  sums.entries["blk.2.ffn_up_exps.weight"] = {{1, 2}, {1}, ""};  // of another size
  sums.entries["output.weight"] = {{0, 0}, {0}, ""};
  const auto all = statistics(sums);
  ASSERT_EQ(all.size(), 4u);
  const TensorStatistics& s = all[0];
  EXPECT_EQ(s.kind, "ffn_up_exps");
  EXPECT_EQ(s.layer, 0);
  EXPECT_EQ(s.matrices, 3);
  EXPECT_EQ(s.unreached, 1);
  EXPECT_EQ(s.tokens, 3);
  EXPECT_EQ(s.elements, 4);  // 1, 3, 0, 0
  EXPECT_EQ(s.sum, 4);
  EXPECT_EQ(s.min, 0);
  EXPECT_EQ(s.max, 3);
  EXPECT_EQ(s.mean, 1);
  EXPECT_DOUBLE_EQ(s.deviation, std::sqrt(1.5));
  EXPECT_EQ(s.active, 0.5);
  EXPECT_DOUBLE_EQ(s.entropy, 0.25 * 2 + 0.75 * std::log2(4 / 3.0));
  EXPECT_DOUBLE_EQ(s.entropy_share(), s.entropy / 2);
  EXPECT_EQ(s.zd, 0.25);
  EXPECT_FALSE(s.cosine);
  ASSERT_TRUE(all[1].cosine);
  EXPECT_DOUBLE_EQ(*all[1].cosine, 1);
  EXPECT_FALSE(all[2].cosine);
  EXPECT_EQ(all[3].name, "output.weight");
  EXPECT_EQ(all[3].kind, "output");
  EXPECT_EQ(all[3].elements, 0);
  const auto layers = layer_statistics(all);
  ASSERT_EQ(layers.size(), 3u);
  EXPECT_EQ(layers[0].sum, 4);
  EXPECT_EQ(layers[1].cosine, 1);
  const auto rare = few(sums, 2);
  ASSERT_EQ(rare.size(), 7u);
  EXPECT_EQ(rare[0].name, "blk.0.ffn_up_exps.weight");
  EXPECT_EQ(rare[0].matrix, 1);
  EXPECT_EQ(rare[1].matrix, 2);
  EXPECT_EQ(rare[1].tokens, 1);
  EXPECT_EQ(rare[5].matrix, -1);
}

TEST(ImportanceStatistics, OfTheReferencesFile) {
  const auto at = locate(std::string(INGOT_SOURCE_DIR) + "/tests/data/quant/imatrix.gguf");
  ASSERT_TRUE(at.ok());
  const auto a = open_model(*at->store, at->path);
  ASSERT_TRUE(a.ok()) << a.error().message;
  const auto sums = transform::read_importance_sums({*a});
  ASSERT_TRUE(sums.ok()) << sums.error().message;
  const auto all = statistics(*sums);
  EXPECT_EQ(all.size(), 42u);
  const TensorStatistics* s = find(all, "blk.0.ffn_down.weight");
  ASSERT_TRUE(s);
  EXPECT_NEAR(s->sum, 2945.125327074192, 1e-9);
  EXPECT_NEAR(s->min, 0.0007633140626943336, 1e-15);
  EXPECT_NEAR(s->max, 61.82900206367925, 1e-11);
  EXPECT_NEAR(s->mean, 3.8347986029611874, 1e-12);
  EXPECT_NEAR(s->deviation, 6.090783987198812, 1e-12);
  EXPECT_EQ(s->active, 1);
  EXPECT_EQ(s->elements, 768);
  EXPECT_NEAR(s->entropy, 8.498615299387321, 1e-11);
  EXPECT_NEAR(s->zd, 0.09505208333333333, 1e-15);
  s = find(all, "blk.3.attn_q.weight");
  ASSERT_TRUE(s && s->cosine);
  EXPECT_NEAR(s->sum, 157.66598405658087, 1e-10);
  EXPECT_NEAR(s->entropy, 7.755947033740307, 1e-11);
  EXPECT_NEAR(*s->cosine, 0.9782328643091184, 1e-12);
}

}  // namespace
}  // namespace ingot::calibrate
