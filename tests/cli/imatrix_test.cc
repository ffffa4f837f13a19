// quantize with an importance matrix of llama-imatrix (that of the bundled model), and the types that need one.
#include <gtest/gtest.h>

#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

using nlohmann::json;

const std::string kBase = example("tiny-llama-base");
const std::string kGguf = data_file("quant/imatrix.gguf"), kDat = data_file("quant/imatrix.dat");

class Imatrix : public CliTest {
 protected:
  Finished quantize(const std::string& type, std::vector<std::string> more) const {
    std::vector<std::string> words = {"quantize", kBase, "--type", type, "--out", dir_ / (type + ".gguf"), "--force"};
    words.insert(words.end(), more.begin(), more.end());
    return ingot(words);
  }
  json metadata(const std::string& type) const { return result_of(ingot({"inspect", dir_ / (type + ".gguf"), "--json"}))["metadata"]; }
};

void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(f.exit_code, exit_code) << f.err;
  for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
}

TEST_F(Imatrix, EveryTypeIsMadeAndRuns) {
  for (const char* type : {"IQ4_XS", "IQ4_NL", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "Q2_K_S", "TQ1_0", "TQ2_0", "NVFP4"}) {
    const Finished f = quantize(type, {"--imatrix", kGguf});
    ASSERT_EQ(f.exit_code, 0) << type << f.err;
    EXPECT_EQ(f.err.find("importance"), std::string::npos) << f.err;  // nothing is amiss
    EXPECT_EQ(ingot({"verify", dir_ / (std::string(type) + ".gguf")}).exit_code, 0) << type;
    const Finished run = ingot({"run", dir_ / (std::string(type) + ".gguf"), "--prompt", "The", "-n", "4"});
    EXPECT_EQ(run.exit_code, 0) << type << run.err;
  }
}

TEST_F(Imatrix, TheFileSaysSo) {
  ASSERT_EQ(quantize("Q4_K_M", {"--imatrix", kGguf}).exit_code, 0);
  const json m = metadata("Q4_K_M");
  EXPECT_EQ(m["quantize.imatrix.file"], "imatrix.gguf");
  EXPECT_EQ(m["quantize.imatrix.dataset"], "calibration.txt");
  EXPECT_EQ(m["quantize.imatrix.entries_count"], 42);
  EXPECT_EQ(m["quantize.imatrix.chunks_count"], 265);
  ASSERT_EQ(quantize("Q4_K_S", {}).exit_code, 0);
  EXPECT_FALSE(metadata("Q4_K_S").contains("quantize.imatrix.file"));
}

// The older kind of file has the same means, but for its rounding.
TEST_F(Imatrix, BothKindsAndSeveral) {
  ASSERT_EQ(quantize("Q4_K_M", {"--imatrix", kGguf}).exit_code, 0);
  const std::string one = read_file(dir_ / "Q4_K_M.gguf");
  ASSERT_EQ(quantize("Q4_K_M", {"--imatrix", kDat}).exit_code, 0);
  const std::string old = read_file(dir_ / "Q4_K_M.gguf");
  ASSERT_EQ(old.size(), one.size());
  size_t differ = 0;
  for (size_t i = 0; i < one.size(); ++i) differ += one[i] != old[i];
  EXPECT_LT(differ, one.size() / 100);
  const Finished f = quantize("Q4_K_M", {"--imatrix", kGguf, "--imatrix", kGguf});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(metadata("Q4_K_M")["quantize.imatrix.chunks_count"], 530);
}

TEST_F(Imatrix, WhatNeedsOneIsToldBeforeAnyWork) {
  for (const char* type : {"IQ2_XXS", "IQ3_XXS", "IQ1_S", "Q2_K_S"}) expect_said(quantize(type, {}), 3, {type, "need an importance matrix", "--imatrix FILE"});
  expect_said(quantize("IQ2_XXS", {"--imatrix", kGguf, "--exclude-weights", "attn_q"}), 3, {"blk.0.attn_q.weight (IQ2_XXS)", "no entry of them"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
  expect_said(quantize("Q4_K_M", {}), 0, {"Q4_K_M without an importance matrix loses more"});
  EXPECT_EQ(quantize("Q5_K_M", {}).err.find("importance"), std::string::npos);
}

TEST_F(Imatrix, PartsOfItAndWhatIsNone) {
  ASSERT_EQ(quantize("Q4_K_M", {}).exit_code, 0);
  const std::string plain = read_file(dir_ / "Q4_K_M.gguf");
  expect_said(quantize("Q4_K_M", {"--imatrix", kGguf, "--include-weights", "ffn_down"}), 0, {"no entry of"});
  EXPECT_EQ(metadata("Q4_K_M")["quantize.imatrix.entries_count"], 6);
  EXPECT_NE(read_file(dir_ / "Q4_K_M.gguf"), plain);
  expect_said(quantize("Q4_K_M", {"--imatrix", kGguf, "--include-weights", "nothing"}), 2, {"--include-weights leaves no entry"});
  expect_said(quantize("Q4_K_M", {"--imatrix", kGguf, "--include-weights", "a", "--exclude-weights", "b"}), 2, {"exclude each other"});
  expect_said(quantize("Q4_K_M", {"--exclude-weights", "b"}), 2, {"--exclude-weights", "--imatrix FILE"});
  expect_said(quantize("Q4_K_M", {"--imatrix", kBase}), 3, {"tiny-llama-base", "llama-imatrix"});
  expect_said(quantize("Q4_K_M", {"--imatrix", dir_ / "nowhere.gguf"}), 3, {"nowhere.gguf"});
}

TEST_F(Imatrix, TypesFromAFile) {
  write_file(dir_ / "types.txt", "attn_v=Q8_0\n  ffn_up=IQ4_NL\tattn_q=Q6_K\n");
  ASSERT_EQ(quantize("Q4_K_M", {"--tensor-type-file", dir_ / "types.txt"}).exit_code, 0);
  const json j = result_of(ingot({"inspect", dir_ / "Q4_K_M.gguf", "--json"}));
  EXPECT_NE(j.dump().find("IQ4_NL"), std::string::npos);
  write_file(dir_ / "types.txt", "attn_v");
  expect_said(quantize("Q4_K_M", {"--tensor-type-file", dir_ / "types.txt"}), 2, {"'attn_v'", "PATTERN=T"});
}

}  // namespace
}  // namespace ingot::testing
