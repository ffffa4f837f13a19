// Models under Megatron's names become Hugging Face's. The samples are made from the expected directories by tests/data/checkpoints/make/megatron_names.py.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "program.h"

namespace ingot::testing {
namespace {

class Megatron : public CliTest {
 protected:
  static std::string sample(const std::string& name) { return data_file("checkpoints/megatron/" + name); }
  Finished convert(const std::string& from, const std::string& to, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"convert", from, "--out", to});
    return ingot(more);
  }
  std::string hash(const std::string& path) const { return result_of(ingot({"hash", path, "--json"}))["exact"]; }
  void refused(const Finished& f, int exit_code, const std::vector<std::string>& parts) const {
    EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
    for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << ": " << f.err;
  }
  // A copy of a sample that a test may change.
  std::string copy(const std::string& name) const {
    const std::string to = dir_ / "copy";
    std::filesystem::copy(sample(name), to, std::filesystem::copy_options::recursive);
    return to;
  }
};

TEST_F(Megatron, EveryFormBecomesTheModelThatItWasMadeFrom) {
  for (const char* from : {"llama/megatron", "llama/megatron/iter_0000005", "llama/model_optim_rng.pt", "qwen2/model_optim_rng.pt", "moe/nemo", "moe/nemo/weights"}) {
    const std::string hf = sample(std::string(from).substr(0, std::string(from).find('/')) + "/hf"), out = dir_ / "out";
    const Finished f = convert(sample(from), out, {"--config-from", hf, "--force"});
    ASSERT_EQ(f.exit_code, 0) << from << f.err;
    EXPECT_EQ(hash(out), hash(hf)) << from;
    EXPECT_NE(f.err.find("of 64 rows the first 60 are the model's"), std::string::npos) << f.err;
    EXPECT_EQ(nlohmann::json::parse(read_file(out + "/config.json")), nlohmann::json::parse(read_file(hf + "/config.json"))) << from;
  }
}

TEST_F(Megatron, TheConfigurationIsMadeOfTheCheckpointsOwn) {
  // NeMo's says the true vocabulary, so that all of it is the model's.
  ASSERT_EQ(convert(sample("moe/nemo"), dir_ / "moe").exit_code, 0);
  EXPECT_EQ(hash(dir_ / "moe"), hash(sample("moe/hf")));
  EXPECT_EQ(nlohmann::json::parse(read_file(dir_ / "moe/config.json")), nlohmann::json::parse(read_file(sample("moe/hf/config.json"))));
  for (const char* name : {"llama", "qwen2"}) {
    const std::string out = dir_ / name;
    const Finished f = convert(sample(name + std::string("/model_optim_rng.pt")), out);
    ASSERT_EQ(f.exit_code, 0) << f.err;
    EXPECT_NE(f.err.find("padding included"), std::string::npos) << f.err;
    auto made = nlohmann::json::parse(read_file(out + "/config.json")), whole = nlohmann::json::parse(read_file(sample(name + std::string("/hf/config.json"))));
    EXPECT_EQ(made["vocab_size"], 64);
    whole["vocab_size"] = 64;
    for (const char* flag : {"attention_bias", "mlp_bias"}) made.erase(flag);  // said where the class has it
    EXPECT_EQ(made, whole);
  }
}

TEST_F(Megatron, AFileOrACheckpointKeepsItsNames) {
  ASSERT_EQ(convert(sample("llama/megatron"), dir_ / "state.safetensors").exit_code, 0);
  const Finished f = ingot({"inspect", dir_ / "state.safetensors", "--json"});
  EXPECT_NE(f.out.find("model/decoder.layers.1.self_attention.linear_qkv.weight"), std::string::npos) << f.out;
  EXPECT_EQ(hash(dir_ / "state.safetensors"), hash(sample("llama/megatron")));
}

TEST_F(Megatron, WhatDoesNotFitIsSaidByName) {
  refused(convert(sample("llama/megatron"), dir_ / "out", {"--config-from", sample("moe/hf")}), 3, {"'decoder.layers.0.mlp.linear_fc1.weight' has no place in MixtralForCausalLM"});
  const std::string hf = copy("llama/hf");
  auto config = nlohmann::json::parse(read_file(hf + "/config.json"));
  config["num_key_value_heads"] = 4;
  write_file(hf + "/config.json", config.dump());
  refused(convert(sample("llama/megatron"), dir_ / "out", {"--config-from", hf}), 3,
          {"its own configuration says 'num_query_groups' 2", "'num_key_value_heads' 4", "give the config.json of this model"});
  EXPECT_FALSE(exists(dir_ / "out"));
}

TEST_F(Megatron, WithoutAConfigurationItAsksForOne) {
  std::filesystem::remove(copy("moe/nemo") + "/context/model.yaml");
  refused(convert(dir_ / "copy", dir_ / "out"), 3, {"'num_layers' (num_hidden_layers)", "'rotary_base' (rope_theta)", "--config-from DIR"});
  EXPECT_EQ(convert(dir_ / "copy", dir_ / "out", {"--config-from", sample("moe/hf")}).exit_code, 0);
}

}  // namespace
}  // namespace ingot::testing
