// Directories that DeepSpeed wrote, beside what the writing processes held: as dcp_samples_test.cc has it.
#include "formats/outputs.h"
#include "formats/samples_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class DeepspeedSamples : public Samples {};

TEST_F(DeepspeedSamples, EachStage) {
  for (const char* name : {"deepspeed-zero1", "deepspeed-zero1-bf16", "deepspeed-zero2", "deepspeed-zero2-bf16-frozen", "deepspeed-zero2-tied", "deepspeed-zero3", "deepspeed-zero3-bf16-frozen",
                           "deepspeed-zero3-tied", "deepspeed-universal"}) {
    if (!begin(name)) continue;
    const Artifact a = open(folder_), tag = open(folder_ + "/global_step3");
    EXPECT_EQ(a.format, "deepspeed");
    EXPECT_EQ(tag.tensors.size(), a.tensors.size());
    all_of(a, "", "");
    for (auto it = json_["leaves"].begin(); it != json_["leaves"].end(); ++it) EXPECT_EQ(*parse_json(a.values.at(it.key()), ""), it.value()) << it.key();
    for (size_t g = 0; g < json_["lr"].size(); ++g) EXPECT_EQ(*parse_json(a.values.at(fmt::format("optimizer/param_groups/{}/lr", g)), ""), json_["lr"][g]);
    for (const auto& t : a.tensors)
      if (t.name.starts_with("step/")) {
        EXPECT_EQ(to_floats(*evaluate(t.node)), std::vector<float>{3}) << t.name;
      }
    for (const auto& pair : json_["shared_parameters"]) {
      const std::string first = pair[0], second = pair[1];
      EXPECT_EQ(a.find("model/" + first)->node, a.find("model/" + second)->node);
      EXPECT_EQ(a.find("master/" + first)->node, a.find("master/" + second)->node);
    }
    EXPECT_TRUE(a.notices.empty()) << notices(a);
  }
}

TEST_F(DeepspeedSamples, Universal) {
  if (!begin("deepspeed-universal")) return;
  const Artifact a = open(folder_ + "/global_step3_universal");
  all_of(a, "", "");
  EXPECT_EQ(a.values.at("optimizer/param_groups/0/lr"), "0.0025");
  EXPECT_EQ(a.values.at("global_steps"), "3");
  EXPECT_TRUE(a.find("step/scale"));
}

// What ds_to_universal would make of each: the same tensors and values again.
TEST_F(DeepspeedSamples, WrittenAsUniversal) {
  for (const char* name : {"deepspeed-zero1-bf16", "deepspeed-zero3", "deepspeed-zero3-bf16-frozen", "deepspeed-universal"}) {
    if (!begin(name)) continue;
    const Artifact a = open(folder_);
    auto store = make_memory_store();
    const auto output = make_output(a, *store, "u", "deepspeed-universal");
    ASSERT_TRUE(output.ok()) << output.error().message;
    const auto report = run_job({*output}, {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    const auto u = open_model(*store, "u");
    ASSERT_TRUE(u.ok()) << u.error().message;
    all_of(*u, "", "");
    EXPECT_EQ(u->tensors.size(), a.tensors.size());
    for (const char* value : {"global_steps", "epoch", "lr_scheduler/last_epoch", "optimizer/param_groups/0/lr", "optimizer/ds_version"})
      EXPECT_EQ(u->values.at(value), a.values.at(std::string(value) == "optimizer/ds_version" ? "ds_version" : value));
    EXPECT_TRUE(is_there(*store, "u/global_step3_universal/zero/scale/step.pt"));
    EXPECT_EQ(get_file(*store, "u/latest_universal"), "global_step3_universal");
  }
  Artifact plain;
  plain.tensors = {{"w", f32_tensor({1}, {1})}};
  auto store = make_memory_store();
  const auto output = make_output(plain, *store, "u", "deepspeed-universal");
  ASSERT_TRUE(output.ok());
  const auto report = run_job({*output}, {});
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("it has no float32 copies that an optimizer steps"), std::string::npos) << report.error().message;
}

// As ds_to_universal has them of stages 1 and 2: a frozen parameter and a buffer as float32 alone, a tied parameter by its other name.
TEST(DeepspeedUniversal, WhatNoOptimizerStepsAndTiesAreKept) {
  const NodePtr stepped = f32_tensor({2, 3}, random_floats(6, 1));
  Artifact a;
  a.tensors = {{"model/emb", f32_tensor({2, 3}, random_floats(6, 2))}, {"model/frozen", make_memory_tensor({DType::kBF16, {3}}, std::vector<std::byte>(6, std::byte{0x40}))},
               {"model/wide", make_memory_tensor({DType::kF64, {1}}, std::vector<std::byte>({std::byte{}, std::byte{}, std::byte{}, std::byte{}, std::byte{}, std::byte{}, std::byte{4}, std::byte{0x40}}))},
               {"model/seen", make_memory_tensor({DType::kI64, {}}, std::vector<std::byte>(8, std::byte{1}))}, {"master/emb", stepped}, {"exp_avg/emb", stepped}};
  a.tensors.push_back({"model/head", a.tensors[0].node});
  a.tensors.push_back({"master/head", stepped});
  a.values = {{"buffer_names/0", "\"seen\""}, {"global_steps", "3"}};
  auto store = make_memory_store();
  const auto output = make_output(a, *store, "u", "deepspeed-universal");
  ASSERT_TRUE(output.ok()) << output.error().message;
  const auto report = run_job({*output}, {});
  ASSERT_TRUE(report.ok()) << report.error().message;
  const std::string tag = "u/global_step3_universal";
  for (const auto& [name, value] : {std::pair{"frozen", 3.0f}, {"wide", 2.5f}, {"seen", 72340172838076673.f}}) {
    const auto copy = open_model(*store, fmt::format("{}/zero/{}/fp32.pt", tag, name));
    ASSERT_TRUE(copy.ok()) << copy.error().message;
    EXPECT_EQ(copy->find("param")->spec().type, DType::kF32) << name;
    EXPECT_EQ(to_floats(*evaluate(copy->find("param")->node))[0], value);
  }
  const auto model = open_model(*store, tag + "/mp_rank_00_model_states.pt");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->values.at("shared_params/head"), "\"emb\"");
  EXPECT_EQ(model->values.at("frozen_param_shapes/frozen/0"), "3");
  EXPECT_FALSE(model->values.contains("param_shapes/0/head/0"));
  const auto u = open_model(*store, "u");
  ASSERT_TRUE(u.ok()) << u.error().message;
  EXPECT_EQ(u->tensors.size(), a.tensors.size());
  for (const char* kind : {"model", "master"}) EXPECT_EQ(u->find(kind + std::string("/head"))->node, u->find(kind + std::string("/emb"))->node) << kind;
}

}  // namespace
}  // namespace ingot
