// Directories that torch.distributed.checkpoint and Megatron wrote, beside what the writing processes held: tests/data/checkpoints, or all of the set that these are
// taken from, in the folder that INGOT_CHECKPOINTS names.
#include "formats/samples_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class DcpSamples : public Samples {};

TEST_F(DcpSamples, OneRankWithANestedState) {
  if (!begin("dcp-1rank")) return;
  const Artifact a = open(folder_);
  EXPECT_EQ(a.format, "dcp");
  EXPECT_EQ(a.naming, "");
  all_of(a, "", "");
  EXPECT_EQ(a.tensors.size(), expected_.tensors.size());
  same_values(a, json_["leaves"]);
}

TEST_F(DcpSamples, FourRanksOnMeshes) {
  if (!begin("dcp-4rank")) return;
  const Artifact a = open(folder_);
  for (const auto& t : expected_.tensors) same(a, t.name.starts_with("own.") ? "own/" + t.name.substr(4) : t.name, t.name);
  EXPECT_EQ(a.tensors.size(), expected_.tensors.size());
  same_values(a, json_["leaves"]);
}

TEST_F(DcpSamples, Fsdp) {
  for (const char* name : {"dcp-fsdp1", "dcp-fsdp2", "dcp-fsdp2-bf16", "dcp-fsdp2-tp"}) {
    if (!begin(name)) continue;
    const Artifact a = open(folder_);
    for (const auto& t : expected_.tensors) same(a, t.name.starts_with("optim/") ? "optim/state/" + t.name.substr(6) : t.name, t.name);
    EXPECT_EQ(a.tensors.size(), expected_.tensors.size()) << name;
    for (auto it = json_["leaves"].begin(); it != json_["leaves"].end(); ++it) EXPECT_EQ(*parse_json(a.values.at(it.key()), ""), it.value()) << it.key();
    EXPECT_TRUE(a.notices.empty()) << notices(a);
  }
}

TEST_F(DcpSamples, Safetensors) {
  for (const char* name : {"dcp-1rank-safetensors", "dcp-hf", "dcp-hf-consolidated"}) {
    if (!begin(name)) continue;
    const Artifact a = open(folder_);
    EXPECT_EQ(a.naming, "hf");
    all_of(a, "", "");
    EXPECT_EQ(a.tensors.size(), expected_.tensors.size()) << name;
  }
  if (!begin("dcp-hf-consolidated")) return;
  all_of(open(folder_ + "/sharded"), "", "");
}

TEST_F(DcpSamples, Megatron) {
  for (const char* name : {"megatron-tp2", "megatron-tp2-bf16", "megatron-pp2"}) {
    if (!begin(name)) continue;
    const Artifact a = open(folder_), same_one = open(folder_ + "/iter_0000003");
    EXPECT_EQ(a.format, "megatron");
    EXPECT_EQ(a.tensors.size(), same_one.tensors.size());
    all_of(a, "", "");
    EXPECT_EQ(a.tensors.size(), expected_.tensors.size() + 1) << "optimizer/optimizer/state/common_step";
    EXPECT_EQ(a.values.at("iteration"), "3");
    EXPECT_EQ(a.values.at("checkpoint_version"), "3.0");
    EXPECT_EQ(a.values.at("args/num_layers"), "2");
    EXPECT_EQ(a.values.at("args/hidden_size"), "32");
    EXPECT_TRUE(a.notices.empty()) << notices(a);
  }
}

}  // namespace
}  // namespace ingot
