// ingot inspect: the tree of modules.
#include <gtest/gtest.h>

#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

class Inspect : public CliTest {};

TEST_F(Inspect, ModulesOfOneFormAreOneLine) {
  const std::string out = ingot({"inspect", example("tiny-llama-base")}).out;
  for (const char* part : {"\n  layers.0-5 ", "54 tensors", "\n      q_proj.weight ", "6 x [256, 256]", "786 kB", "\nlm_head.weight "}) EXPECT_NE(out.find(part), std::string::npos) << part << out;
  EXPECT_EQ(out.find("model.layers.3"), std::string::npos);
  const std::string list = ingot({"inspect", example("tiny-llama-base"), "--list"}).out;
  EXPECT_NE(list.find("\nmodel.layers.3.self_attn.q_proj.weight "), std::string::npos);
}

TEST_F(Inspect, AllFilesOfADistributedCheckpointAreOnDisk) {
  const std::string zero = data_file("checkpoints/deepspeed-zero1-bf16/ckpt");
  uint64_t bytes = 0;
  for (const auto& e : std::filesystem::recursive_directory_iterator(zero)) bytes += e.is_regular_file() ? e.file_size() : 0;
  EXPECT_EQ(result_of(ingot({"inspect", zero, "--json"}))["bytes"], bytes);
  // What a link to a directory leads to is none of it; a file may lie elsewhere, as in the Hub's cache.
  std::filesystem::copy(zero, dir_ / "zero", std::filesystem::copy_options::recursive);
  std::filesystem::rename(dir_ / "zero/latest", dir_ / "blob");
  std::filesystem::create_symlink("../blob", dir_ / "zero/latest");
  std::filesystem::create_directory_symlink(".", dir_ / "zero/loop");
  std::filesystem::create_directory_symlink(example("tiny-llama-base"), dir_ / "zero/elsewhere");
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "zero", "--json"}))["bytes"], bytes);
}

TEST_F(Inspect, ALayerOfAnotherFormStandsAlone) {
  make_many_shards(dir_ / "m", 5);
  ASSERT_EQ(ingot({"quantize", example("tiny-llama-base"), dir_ / "q.gguf", "Q4_K_M"}).exit_code, 0);
  // Q4_K_M gives some layers Q6_K in attn_v and ffn_down: those are apart.
  const std::string out = ingot({"inspect", dir_ / "q.gguf"}).out;
  EXPECT_NE(out.find("\nblk "), std::string::npos) << out;
  EXPECT_NE(out.find("\n  0-1, "), std::string::npos) << out;
  EXPECT_NE(ingot({"inspect", dir_ / "m"}).out.find("layers.0-4"), std::string::npos);
}

}  // namespace
}  // namespace ingot::testing
