#include "exec/ranks.h"

#include <gtest/gtest.h>

#include <map>

namespace ingot {
namespace {

Result<ProcessRank> rank_in(const std::map<std::string, std::string>& variables) {
  return process_rank([&](const char* name) -> const char* {
    auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

TEST(ProcessRank, IsWhatTheLauncherSays) {
  const std::pair<const char*, const char*> launchers[] = {{"RANK", "WORLD_SIZE"},
                                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                                           {"PMI_RANK", "PMI_SIZE"},
                                                           {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};
  for (const auto& [rank, world] : launchers) {
    const auto r = rank_in({{rank, "2"}, {world, "8"}});
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->rank, 2);
    EXPECT_EQ(r->world, 8);
    EXPECT_EQ(r->from, std::string(rank) + " and " + world);
  }
}

TEST(ProcessRank, TorchrunInsideASlurmStepIsTorchrun) {
  const auto r = rank_in({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"RANK", "5"}, {"WORLD_SIZE", "16"}});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->rank, 5);
  EXPECT_EQ(r->world, 16);
}

TEST(ProcessRank, ABatchScriptOrHalfAPairIsOneProcess) {
  for (const std::map<std::string, std::string>& v : std::vector<std::map<std::string, std::string>>{
           {},
           {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}},
           {{"RANK", "3"}},
           {{"RANK", "0"}, {"WORLD_SIZE", "1"}},
           {{"RANK", ""}, {"WORLD_SIZE", ""}}}) {
    const auto r = rank_in(v);
    ASSERT_TRUE(r.ok());
    EXPECT_EQ(r->world, 1);
    EXPECT_EQ(r->from, "");
  }
}

TEST(ProcessRank, NonsenseIsNamed) {
  for (const auto& [rank, world] : std::vector<std::pair<std::string, std::string>>{
           {"2", "2"}, {"-1", "4"}, {"one", "4"}, {"0", "99999999999"}, {"0", "4x"}}) {
    const auto r = rank_in({{"RANK", rank}, {"WORLD_SIZE", world}});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().kind, ErrorKind::kUsage);
    EXPECT_NE(r.error().message.find("RANK=" + rank), std::string::npos) << r.error().message;
  }
}

}  // namespace
}  // namespace ingot
