// FSDP's ranks: the model joined of what torch wrote (tests/data/checkpoints/make/fsdp_ranks.py), and what cannot be.
#include "formats/fsdp_ranks.h"

#include <numeric>

#include "formats/samples_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class FsdpRanks : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt", "optim_world_size_2_rank_0.pt"})
      put_file(*store_, std::string("run/") + name, get_file(local_store(), std::string(INGOT_SOURCE_DIR "/tests/data/checkpoints/fsdp-ranks/") + name));
  }
  void refused(const std::string& part, const std::string& path = "run") {
    const auto a = open_model(*store_, path);
    ASSERT_FALSE(a.ok());
    EXPECT_NE(a.error().message.find(part), std::string::npos) << a.error().message;
  }
  std::unique_ptr<Store> store_ = make_memory_store();
};

TEST_F(FsdpRanks, AreJoinedAsTheyWereCut) {
  put_file(*store_, "run/huggingface/config.json", "{\"a\": 1}");
  const auto a = open_model(*store_, "run");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->naming, "hf");
  EXPECT_EQ(a->files.at("config.json"), "{\"a\": 1}");
  ASSERT_EQ(a->notices.size(), 1U);
  EXPECT_NE(a->notices[0].find("joined of the 2 ranks of FSDP"), std::string::npos) << a->notices[0];
  const std::pair<const char*, Shape> all[] = {{"rows", {5, 3}}, {"columns", {2, 5}}, {"first", {1, 2}}, {"same", {4}}, {"buffer", {3}}};
  ASSERT_EQ(a->tensors.size(), std::size(all));
  for (const auto& [name, shape] : all) {
    const LazyTensor* t = a->find(name);
    ASSERT_TRUE(t) << name;
    EXPECT_TRUE(t->spec() == (TensorSpec{DType::kF32, shape})) << name;
    std::vector<float> want(static_cast<size_t>(shape.elements()));
    std::iota(want.begin(), want.end(), 0.0f);
    EXPECT_EQ(to_floats(*evaluate(t->node)), want) << name;
    expect_regions_match(t->node, 5, 1);
  }
}

TEST_F(FsdpRanks, NeedEachRankOnceAndInItsPlace) {
  const std::string first = get_file(*store_, "run/model_world_size_2_rank_0.pt");
  ASSERT_TRUE(store_->remove("run/model_world_size_2_rank_1.pt").ok());
  refused("of its 2 ranks model_world_size_2_rank_1.pt is missing");
  put_file(*store_, "run/model_world_size_2_rank_1.pt", first);
  refused("does not follow those of the ranks before");
  put_file(*store_, "run/model_world_size_4_rank_3.pt", first);
  refused("ranks of 2 and of 4");
  refused("its subdirectory has: give run", ".");
  // One rank is no model, and says so once for all of its tensors.
  const auto one = open_model(*store_, "run/model_world_size_2_rank_0.pt");
  ASSERT_TRUE(one.ok()) << one.error().message;
  ASSERT_EQ(one->notices.size(), 1U);
  EXPECT_NE(one->notices[0].find("'rows' is a distributed tensor [5, 3]"), std::string::npos) << one->notices[0];
  EXPECT_NE(one->notices[0].find("; so is 1 more"), std::string::npos) << one->notices[0];
}

}  // namespace
}  // namespace ingot
