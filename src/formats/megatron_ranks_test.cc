// Megatron's older form: the model joined of its ranks, by tensors and by stages, and what cannot be.
#include "formats/megatron_ranks.h"

#include "formats/outputs.h"
#include "formats/samples_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class MegatronRanks : public ::testing::Test {
 protected:
  static std::vector<float> values(int64_t from, int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(from + static_cast<int64_t>(i));
    return v;
  }
  // A rank's part of a layer: hidden 2, feed-forward 4 in all, so that each of two ranks has two gates and two ups.
  void save(const std::string& name, const std::vector<LazyTensor>& tensors, int tensor_parallel, int stages) {
    Artifact a;
    a.values = {{"args/tensor_model_parallel_size", fmt::format("{}", tensor_parallel)}, {"args/pipeline_model_parallel_size", fmt::format("{}", stages)},
                {"iteration", "7"}, {"optimizer/param_groups/0/lr", "0.1"}};
    a.tensors = tensors;
    write_output(*make_output(a, *store_, "run/iter_0000007/" + name + "/model_optim_rng.pt", "torch"));
    put_file(*store_, "run/latest_checkpointed_iteration.txt", "7");
  }
  std::string error() {
    const auto a = open_model(*store_, "run");
    return a.ok() ? "it opens" : a.error().message;
  }
  static std::vector<float> of(const Artifact& a, const std::string& name) {
    const LazyTensor* t = a.find(name);
    EXPECT_TRUE(t) << name;
    if (!t) return {};
    expect_regions_match(t->node, 5, 1);
    return to_floats(*evaluate(t->node));
  }

  std::unique_ptr<Store> store_ = make_memory_store();
  const std::string layer_ = "model/decoder.layers.0.";
};

TEST_F(MegatronRanks, TensorParallel) {
  for (int r : {0, 1}) {
    const int64_t at = 100 * r;
    save(fmt::format("mp_rank_0{}", r), {{"model/embedding.word_embeddings.weight", f32_tensor({2, 2}, values(at, 4))},
                                         {layer_ + "self_attention.linear_proj.weight", f32_tensor({2, 2}, values(at, 4))},
                                         {layer_ + "self_attention.linear_proj.bias", f32_tensor({2}, values(0, 2))},
                                         {layer_ + "mlp.linear_fc1.weight", f32_tensor({4, 2}, values(at, 8))},
                                         {layer_ + "mlp.linear_fc1.bias", f32_tensor({4}, values(at, 4))},
                                         {layer_ + "mlp.linear_fc2.weight", f32_tensor({2, 2}, values(at, 4))},
                                         {layer_ + "input_layernorm.weight", f32_tensor({2}, values(0, 2))},
                                         {"optimizer/state/0/exp_avg", f32_tensor({2}, values(0, 2))}}, 2, 1);
  }
  const auto a = open_model(*store_, "run");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->format + a->naming, "megatron");
  EXPECT_EQ(a->tensors.size(), 7U) << "without the optimizer";
  EXPECT_EQ(a->values.at("iteration"), "7");
  EXPECT_FALSE(a->values.contains("optimizer/param_groups/0/lr"));
  ASSERT_EQ(a->notices.size(), 1U);
  EXPECT_NE(a->notices[0].find("the model is joined of 2 ranks (2 tensor-parallel, 1 stages); each one's optimizer is in its own file, like run/iter_0000007/mp_rank_00/"),
            std::string::npos) << a->notices[0];
  EXPECT_EQ(of(*a, "model/embedding.word_embeddings.weight"), (std::vector<float>{0, 1, 2, 3, 100, 101, 102, 103})) << "rows";
  EXPECT_EQ(of(*a, layer_ + "self_attention.linear_proj.weight"), (std::vector<float>{0, 1, 100, 101, 2, 3, 102, 103})) << "columns";
  EXPECT_EQ(of(*a, layer_ + "self_attention.linear_proj.bias"), (std::vector<float>{0, 1}));
  EXPECT_EQ(of(*a, layer_ + "mlp.linear_fc1.weight"), (std::vector<float>{0, 1, 2, 3, 100, 101, 102, 103, 4, 5, 6, 7, 104, 105, 106, 107})) << "all gates, all ups";
  EXPECT_EQ(of(*a, layer_ + "mlp.linear_fc1.bias"), (std::vector<float>{0, 1, 100, 101, 2, 3, 102, 103}));
  EXPECT_EQ(of(*a, layer_ + "input_layernorm.weight"), (std::vector<float>{0, 1}));
  // The iteration itself may be given.
  EXPECT_EQ(open_model(*store_, "run/iter_0000007")->tensors.size(), 7U);

  put_file(*store_, "run/iter_0000007/mp_rank_01/other", "x");
  ASSERT_TRUE(store_->remove("run/iter_0000007/mp_rank_01/model_optim_rng.pt").ok());
  EXPECT_NE(error().find("mp_rank_01: there is no model_optim_rng.pt"), std::string::npos) << error();
  ASSERT_TRUE(store_->remove("run/iter_0000007/mp_rank_01").ok());
  EXPECT_NE(error().find("it is of 2 tensor-parallel ranks and 1 pipeline stages, but rank 1 of stage 0 is missing (mp_rank_01)"), std::string::npos) << error();
  save("mp_rank_01", {{"model/embedding.word_embeddings.weight", f32_tensor({3, 2}, values(0, 6))}}, 2, 1);
  EXPECT_NE(error().find("is [3, 2], but [2, 2] in run/iter_0000007/mp_rank_00"), std::string::npos) << error();
  for (const char* r : {"mp_rank_00", "mp_rank_01"}) save(r, {{"model/decoder.layers.0.mlp.experts.linear_fc9.weight", f32_tensor({2, 2}, values(0, 4))}}, 2, 1);
  EXPECT_NE(error().find("how 'model/decoder.layers.0.mlp.experts.linear_fc9.weight' ([2, 2]) is cut over its 2 tensor-parallel ranks is not known"), std::string::npos) << error();
  put_file(*store_, "run/iter_0000007/mp_rank_00_000_001/model_optim_rng.pt", "x");
  EXPECT_NE(error().find("mp_rank_00_000_001 is of no rank by tensors and pipeline stages alone"), std::string::npos) << error();
}

TEST_F(MegatronRanks, StagesCountTheirLayersAnew) {
  save("mp_rank_00_000", {{"model/embedding.word_embeddings.weight", f32_tensor({1}, {1})}, {layer_ + "input_layernorm.weight", f32_tensor({1}, {2})},
                          {"model/decoder.layers.1.input_layernorm.weight", f32_tensor({1}, {3})}}, 1, 2);
  EXPECT_NE(error().find("rank 0 of stage 1 is missing (mp_rank_00_001)"), std::string::npos) << error();
  save("mp_rank_00_001", {{layer_ + "input_layernorm.weight", f32_tensor({1}, {4})}, {"model/decoder.final_layernorm.weight", f32_tensor({1}, {5})}}, 1, 2);
  const auto a = open_model(*store_, "run");
  ASSERT_TRUE(a.ok()) << a.error().message;
  std::string all;
  for (const auto& t : a->tensors) all += fmt::format("{}={} ", t.name.substr(t.name.find('.') + 1), to_floats(*evaluate(t.node))[0]);
  EXPECT_EQ(all, "word_embeddings.weight=1 layers.0.input_layernorm.weight=2 layers.1.input_layernorm.weight=3 layers.2.input_layernorm.weight=4 final_layernorm.weight=5 ");
}

TEST_F(MegatronRanks, OneRankIsItsWholeState) {
  save("mp_rank_00", {{"model/embedding.word_embeddings.weight", f32_tensor({1}, {1})}, {"optimizer/state/0/exp_avg", f32_tensor({1}, {2})}}, 1, 1);
  const auto a = open_model(*store_, "run");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->tensors.size(), 2U);
  EXPECT_EQ(a->values.at("optimizer/param_groups/0/lr"), "0.1");
  EXPECT_TRUE(a->notices.empty());
}

using MegatronSample = Samples;
TEST_F(MegatronSample, TheRanksAreTheWholeModel) {
  if (!begin("megatron-legacy-tp2")) GTEST_SKIP() << "not in the repository";
  const Artifact a = open(folder_);
  all_of(a, "model/", "model/");
  EXPECT_EQ(a.tensors.size(), 19U);
  EXPECT_EQ(a.values.at("args/hidden_size") + a.values.at("iteration") + a.values.at("checkpoint_version"), "3233.0");
}

}  // namespace
}  // namespace ingot
