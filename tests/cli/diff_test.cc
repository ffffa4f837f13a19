// ingot diff, and what inspect --tensor says of values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/bytes.h"
#include "exec/executor.h"
#include "formats/outputs.h"
#include "program.h"

namespace ingot::testing {
namespace {

const std::string kBase = example("tiny-llama-base"), kLora = example("lora-code");

class Diff : public CliTest {
 protected:
  nlohmann::json diff(const std::string& a, const std::string& b) const {
    const Finished f = ingot({"diff", a, b, "--json"});
    EXPECT_EQ(f.exit_code, 0) << f.out << f.err;
    return result_of(f);
  }
};

TEST_F(Diff, AModelAndItself) {
  const auto j = diff(kBase, kBase);
  EXPECT_EQ(j["same_tensors"], true);
  EXPECT_EQ(j["same_bytes"], 57);
  EXPECT_EQ(j["different"], 0);
  EXPECT_TRUE(j["beside"].empty());
  EXPECT_EQ(ingot({"diff", kBase, kBase, "--exit-code"}).exit_code, 0);
}

TEST_F(Diff, AcrossFormatsAndFloatTypes) {
  ASSERT_EQ(ingot({"convert", kBase, dir_ / "f32.gguf", "F32"}).exit_code, 0);
  const auto j = diff(dir_ / "f32.gguf", kBase);
  EXPECT_EQ(j["same_tensors"], true);
  EXPECT_EQ(j["same_values"].get<int>() + j["same_bytes"].get<int>(), 57) << "rows of q and k are brought into one order";
  EXPECT_EQ(j["tensors"][0]["type_a"], "F32");
  EXPECT_EQ(j["tensors"][0]["type_b"], "BF16");
  EXPECT_TRUE(j.contains("note"));
}

// {"format": "pt"} of a safetensors file is its writer's mark, of which torch's files have none.
TEST_F(Diff, AFormatsOwnMarkIsNoDifference) {
  ASSERT_EQ(ingot({"convert", kBase, dir_ / "a.pt"}).exit_code, 0);
  const Finished f = ingot({"diff", dir_ / "a.pt", kBase + "/model.safetensors", "--exit-code"});
  EXPECT_EQ(f.exit_code, 0) << f.out << f.err;
}

TEST_F(Diff, LinesFitTheTerminal) {
  ASSERT_EQ(ingot({"convert", kBase, dir_ / "q8.gguf", "Q8_0"}).exit_code, 0);
  SpawnOptions o;
  o.terminal = true;
  o.columns = 80;
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"diff", dir_ / "q8.gguf", kBase}, {"diff", dir_ / "q8.gguf", kBase, "--all"}, {"hash", kBase, "--tensors"}, {"list", "types"}, {"list", "formats"}, {"list", "stores"},
           {"list", "architectures"}, {"inspect", kBase, "--tensor", "model.layers.0.mlp.down_proj.weight"}, {"convert", kBase, dir_ / "a-rather-long-name-of-an-output.pt", "--force"}}) {
    const Finished f = ingot(command, o);
    EXPECT_EQ(f.exit_code, 0) << f.err;
    for (const std::string& line : render(f.err, 1000).lines) {
      const auto columns = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
      EXPECT_LE(columns, 80) << command[0] << " " << command[1] << ": " << line;
    }
  }
}

TEST_F(Diff, QuantizedWeightsByTheirError) {
  ASSERT_EQ(ingot({"convert", kBase, dir_ / "q8.gguf", "Q8_0"}).exit_code, 0);
  ASSERT_EQ(ingot({"quantize", kBase, dir_ / "q4.gguf", "Q4_K_M"}).exit_code, 0);
  const auto q8 = diff(dir_ / "q8.gguf", kBase), q4 = diff(dir_ / "q4.gguf", kBase);
  EXPECT_EQ(q8["different"], 44);
  EXPECT_EQ(q8["same_values"], 13) << "the norms";
  // The worst is the first; a bit of four costs about sixteen times the error of eight.
  for (const auto* j : {&q8, &q4}) EXPECT_GE((*j)["tensors"][0]["relative"], (*j)["tensors"][40]["relative"]);
  EXPECT_GT(q8["tensors"][0]["relative"], 0.001);
  EXPECT_LT(q8["tensors"][0]["relative"], 0.01);
  EXPECT_GT(q4["tensors"][0]["relative"].get<double>(), 5 * q8["tensors"][0]["relative"].get<double>());
  EXPECT_GT(q8["tensors"][0]["cosine"], 0.9999);
  const Finished f = ingot({"diff", dir_ / "q8.gguf", kBase, "--exit-code"});
  EXPECT_EQ(f.exit_code, 1);
  for (const char* part : {"different    44", "Q8_0, BF16", "and 24 more, of smaller errors (--all)", "|A-B|/|B|"}) EXPECT_NE(f.out.find(part), std::string::npos) << part << f.out;
  EXPECT_EQ(ingot({"diff", dir_ / "q8.gguf", kBase, "--all"}).out.find("more, of smaller"), std::string::npos);
}

TEST_F(Diff, OneTensorOneKeyOneFile) {
  ASSERT_EQ(ingot({"lora", "merge", kBase, "--adapter", kLora, "--out", dir_ / "merged"}).exit_code, 0);
  const auto merged = diff(dir_ / "merged", kBase);
  EXPECT_GT(merged["different"], 0);
  EXPECT_GT(merged["same_bytes"], 0) << "what the adapter does not touch";
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "copy", "--force-copy"}).exit_code, 0);
  std::string weights = read_file(dir_ / "copy/model.safetensors");
  weights[weights.size() - 1] = static_cast<char>(weights[weights.size() - 1] ^ 0x40);
  write_file(dir_ / "copy/model.safetensors", weights);
  std::string config = read_file(dir_ / "copy/config.json");
  config.replace(config.find("\"rope_theta\""), 12, "\"rope_thetb\"");
  write_file(dir_ / "copy/config.json", config);
  std::filesystem::remove(dir_ / "copy/generation_config.json");
  const auto j = diff(dir_ / "copy", kBase);
  EXPECT_EQ(j["different"], 1);
  EXPECT_EQ(j["same_bytes"], 56);
  EXPECT_EQ(j["tensors"][0]["different"], 1);
  const std::string beside = j["beside"].dump();
  for (const char* part : {"config.json rope_parameters.rope_theta: nothing, 10000", "config.json rope_parameters.rope_thetb: 10000", "[\"config.json", "\"generation_config.json: only in B\"]"}) EXPECT_NE(beside.find(part), std::string::npos) << part << beside;
}

// Of DeepSpeed's stage 3 the model's weights are those that its optimizer steps, rounded: BF16 is what they are.
TEST_F(Diff, RoundedWeightsHaveTheirOwnTypeAndValues) {
  const std::string sample = data_file("checkpoints/deepspeed-zero3-bf16-frozen");
  const auto j = diff(sample + "/ckpt", sample + "/expected.safetensors");
  EXPECT_EQ(j["different"], 0);
  EXPECT_EQ(j["same_bytes"], j["tensors"].size());
  for (const auto& t : j["tensors"]) EXPECT_EQ(t["type_a"], t["type_b"]) << t["name"];
  ASSERT_EQ(ingot({"convert", sample + "/ckpt", dir_ / "same.pt"}).exit_code, 0);
  const auto hash = [&](const std::string& path) { return result_of(ingot({"hash", path, "--json"})); };
  const auto a = hash(sample + "/ckpt"), b = hash(dir_ / "same.pt");
  EXPECT_EQ(a["exact"], b["exact"]);
  EXPECT_EQ(a["value"], b["value"]);
}

// llama-imatrix's two kinds of files, of the same run: sums and counts, and means times the chunks. An expert that was never chosen counts as 1.
TEST_F(Diff, ImportanceMatricesOfBothKinds) {
  const auto f32 = [](const Shape& shape, const std::vector<float>& v) {
    std::vector<std::byte> bytes(v.size() * sizeof(float));
    std::memcpy(bytes.data(), v.data(), bytes.size());
    return make_memory_tensor({DType::kF32, shape}, bytes);
  };
  const std::vector<float> sums = {47294.6F, 28708.7F, 32092.6F}, experts = {10, 20, 0, 0, 7, 9};
  Artifact a;
  a.format = a.naming = "gguf";
  a.metadata = {{"general.type", {std::string("imatrix")}}, {"imatrix.datasets", {std::vector<std::string>{"wiki.txt"}}}, {"imatrix.chunk_count", {uint32_t{265}}}, {"imatrix.chunk_size", {uint32_t{256}}}};
  a.tensors = {{"blk.0.attn_q.weight.in_sum2", f32({3}, sums)}, {"blk.0.attn_q.weight.counts", f32({1}, {67840})},
               {"blk.0.ffn_up_exps.weight.in_sum2", f32({3, 2}, experts)}, {"blk.0.ffn_up_exps.weight.counts", f32({3, 1}, {512, 0, 300})}};
  ASSERT_TRUE(run_job({gguf_output(a, local_store(), dir_ / "i.gguf")}, {}).ok());
  ByteWriter w;
  const auto entry = [&w](std::string_view name, int32_t calls, const std::vector<float>& values) {
    w.text(name), w.write(calls), w.write(static_cast<int32_t>(values.size()));
    w.append(values.data(), values.size() * sizeof(float));
  };
  w.write<int32_t>(2);
  entry("blk.0.attn_q.weight", 265, {sums[0] / 67840 * 265, sums[1] / 67840 * 265, sums[2] / 67840 * 265});
  entry("blk.0.ffn_up_exps.weight", 2, {10 / 512.0F * 2, 20 / 512.0F * 2, 2, 2, 7 / 300.0F * 2, 9 / 300.0F * 2});
  w.write<int32_t>(265);
  w.text("wiki.txt");
  write_file(dir_ / "i.dat", w.str());
  for (const auto& [x, y] : {std::pair{"i.gguf", "i.dat"}, {"i.dat", "i.gguf"}}) {
    const auto j = diff(dir_ / x, dir_ / y);
    EXPECT_EQ(j["same_bytes"], 2) << j;
    EXPECT_TRUE(j["beside"].empty() && j["only_a"].empty() && j["only_b"].empty()) << j;
    EXPECT_TRUE(j.contains("note"));
  }
}

TEST_F(Diff, WhatOnlyOneHasAndOtherShapes) {
  make_many_shards(dir_ / "two", 2);
  make_many_shards(dir_ / "three", 3);
  const auto j = diff(dir_ / "two", dir_ / "three");
  EXPECT_EQ(j["only_b"].size(), 9u);
  EXPECT_TRUE(j["only_a"].empty());
  EXPECT_EQ(j["same_tensors"], false);
  const auto k = diff(kBase, dir_ / "two");
  EXPECT_GT(k["shapes"].size(), 0u);
  const Finished f = ingot({"diff", dir_ / "two", dir_ / "nothing"});
  EXPECT_EQ(f.exit_code, 3);
  EXPECT_NE(f.err.find("nothing"), std::string::npos);
}

TEST_F(Diff, InspectShowsAHistogramAndCountsWhatIsNoNumber) {
  const auto t = result_of(ingot({"inspect", kBase, "--tensor", "lm_head.weight", "--json"}));
  uint64_t all = 0;
  for (const auto& n : t["histogram"]) all += n.get<uint64_t>();
  EXPECT_EQ(all, t["values"].get<uint64_t>());
  EXPECT_EQ(t["first"].size(), 8u);
  EXPECT_NE(ingot({"inspect", kBase, "--tensor", "lm_head.weight"}).out.find("histogram      |"), std::string::npos);
}

}  // namespace
}  // namespace ingot::testing
