#include "transform/model_state.h"

#include <gtest/gtest.h>

namespace ingot::transform {
namespace {

Artifact state(std::vector<std::string> names) {
  Artifact a;
  a.path = "ckpt.pt";
  std::vector<LazyTensor> all;
  for (auto& n : names) all.push_back({n, make_memory_tensor({DType::kF32, {1}}, std::vector<std::byte>(4))});
  a.tensors = TensorList(std::move(all));
  a.values.emplace("step", "3");
  return a;
}
std::vector<std::string> names(const Artifact& a) {
  std::vector<std::string> all;
  for (const auto& t : a.tensors) all.push_back(t.name);
  return all;
}
using Names = std::vector<std::string>;

TEST(ModelState, ThePartThatIsTheModel) {
  std::string notice;
  const auto m = model_state(state({"model/model.embed_tokens.weight", "model/lm_head.weight", "optimizer/state/0/exp_avg"}), &notice);
  ASSERT_TRUE(m.ok()) << m.error().message;
  EXPECT_EQ(names(*m), (Names{"model.embed_tokens.weight", "lm_head.weight"}));
  EXPECT_EQ(m->naming, "hf");
  EXPECT_TRUE(m->values.empty());
  EXPECT_EQ(notice, "ckpt.pt: a state of training; its part 'model' is the model, the rest is left out: 'optimizer'");
}

TEST(ModelState, WrappersAroundAllOfIt) {
  std::string notice;
  // Lightning: the module's attribute "model" is a transformers model.
  EXPECT_EQ(names(*model_state(state({"state_dict/model.model.norm.weight", "state_dict/model.lm_head.weight"}), &notice)), (Names{"model.norm.weight", "lm_head.weight"}));
  EXPECT_EQ(names(*model_state(state({"module/module.model.norm.weight"}), &notice)), (Names{"model.norm.weight"}));
  // No wrapper: the base model's own prefix.
  EXPECT_EQ(names(*model_state(state({"state_dict/model.norm.weight", "state_dict/lm_head.weight"}), &notice)), (Names{"model.norm.weight", "lm_head.weight"}));
  EXPECT_EQ(names(*model_state(state({"state_dict/model.norm.weight"}), &notice)), (Names{"model.norm.weight"}));
}

TEST(ModelState, OfCopiesTheModelsOwn) {
  std::string notice;
  const std::string m = "state_dict/model.", e = "state_dict/ema.";
  EXPECT_EQ(names(*model_state(state({e + "model.norm.weight", e + "lm_head.weight", m + "model.norm.weight", m + "lm_head.weight", "optimizer/x"}), &notice)),
            (Names{"model.norm.weight", "lm_head.weight"}));
  EXPECT_EQ(notice, "ckpt.pt: a state of training; its part 'state_dict' is the model, the rest is left out: 'optimizer'; of its copies of the model 'model.' is taken, not "
                    "'ema.' (2 tensors): to have another, save it alone");
  // With what wraps the average, and what it counts.
  EXPECT_EQ(names(*model_state(state({"state_dict/avg.module.model.norm.weight", "state_dict/avg.n_averaged", m + "model.norm.weight"}), &notice)), (Names{"model.norm.weight"}));
  EXPECT_NE(notice.find("not 'avg.' (2 tensors)"), std::string::npos) << notice;
  // Part of a model is no copy, nor is a model of its own one beside transformers' "model.".
  EXPECT_EQ(model_state(state({m + "model.norm.weight", m + "lm_head.weight", e + "lm_head.weight"}), &notice)->tensors.size(), 3U);
  EXPECT_EQ(notice.find("copies"), std::string::npos) << notice;
  EXPECT_EQ(model_state(state({m + "norm.weight", e + "norm.weight"}), &notice)->tensors.size(), 2U);
}

TEST(ModelState, DeepSpeedsFullPrecision) {
  std::string notice;
  EXPECT_EQ(names(*model_state(state({"model/model.norm.weight", "master/model.norm.weight", "exp_avg/model.norm.weight"}), &notice)), (Names{"model.norm.weight"}));
  EXPECT_NE(notice.find("'master' is the model"), std::string::npos) << notice;
  EXPECT_EQ(names(*model_state(state({"model/model.norm.weight", "model/model.frozen", "master/model.norm.weight"}), &notice)), (Names{"model.frozen", "model.norm.weight"}));
}

TEST(ModelState, WhatIsNone) {
  std::string notice;
  const auto m = model_state(state({"optimizer/state/0/exp_avg", "ema/w"}), &notice);
  ASSERT_FALSE(m.ok());
  EXPECT_NE(m.error().message.find("'ema' (1 tensors), 'optimizer' (1 tensors)"), std::string::npos) << m.error().message;
  Artifact hf = state({"model.norm.weight"});
  hf.naming = "hf";
  EXPECT_EQ(names(*model_state(hf, &notice)), (Names{"model.norm.weight"}));
}

}  // namespace
}  // namespace ingot::transform
