// Directories whose weights are stored as FP8, or are said to be quantized, and those whose angles are scaled: through the whole
// program, from the directory and from its file.
#include <cmath>
#include <filesystem>
#include <functional>

#include "formats/outputs.h"
#include "formats/safetensors.h"
#include "program.h"
#include "transform/fp8.h"
#include "transform/transform_testing.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

class StoredWeights : public CliTest {
 protected:
  // The example under this name, its config.json changed.
  std::string with_config(const std::string& name, const nlohmann::json& members, const std::vector<std::string>& removed = {}) {
    const std::string to = dir_ / name;
    fs::create_directories(to);
    fs::copy(example("tiny-llama-base"), to, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    nlohmann::json config = nlohmann::json::parse(read_file(to + "/config.json"));
    for (const auto& key : removed) config.erase(key);
    config.update(members);
    write_file(to + "/config.json", config.dump());
    return to;
  }

  // Its projections as FP8 codes with a scale for each 128 x 96 block; exact_ has what they stand for.
  std::string fp8_directory(const std::string& name) {
    const std::string to = with_config(name, {{"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {128, 96}}}}});
    Artifact a = open_or_die(local_store(), to);
    std::vector<LazyTensor> tensors;
    for (const LazyTensor& t : a.tensors) {
      const Shape w = t.spec().shape;
      if (!t.name.ends_with("_proj.weight")) {
        tensors.push_back(t);
        continue;
      }
      const Shape s{(w[0] + 127) / 128, (w[1] + 95) / 96};
      const auto scales = random_floats(s.elements(), static_cast<uint64_t>(tensors.size()), 1e-2f), x = values(t.node);
      std::vector<std::byte> codes(x.size());
      std::vector<float>& exact = exact_[t.name];
      for (size_t i = 0; i < x.size(); ++i) {
        codes[i] = static_cast<std::byte>((i * 7919 + tensors.size()) % 0x60 | (x[i] < 0 ? 0x80 : 0));
        const auto row = static_cast<int64_t>(i) / w[1], col = static_cast<int64_t>(i) % w[1];
        exact.push_back(transform::fp8_value(DType::kF8E4M3, static_cast<uint8_t>(codes[i])) *
                        scales[static_cast<size_t>(row / 128 * s[1] + col / 96)]);
      }
      tensors.push_back({t.name, make_memory_tensor({DType::kF8E4M3, w}, std::move(codes))});
      tensors.push_back({t.name + "_scale_inv", f32_tensor(s, scales)});
    }
    a.tensors = TensorList(std::move(tensors));
    a.files.clear();
    Output o = hf_directory_output(a, local_store(), to, kDefaultShardBytes);
    for (const auto& [file, bytes] : testing::render(o)) write_file(to + "/" + file, bytes);
    return to;
  }

  void expect_exact(const std::string& model, DType type) {
    const Artifact a = open_or_die(local_store(), model);
    for (const auto& [name, exact] : exact_) {
      const LazyTensor* t = a.find(name);
      ASSERT_NE(t, nullptr) << name;
      EXPECT_EQ(t->spec().type, type);
      const auto want = values(typed_tensor(type, t->spec().shape, exact));
      ASSERT_TRUE(values(t->node) == want) << name;
    }
    EXPECT_EQ(a.tensors.size(), 57u);
    EXPECT_EQ(read_file(model + "/config.json").find("quantization_config"), std::string::npos);
  }
  std::string text_of(const std::string& model, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"run", model, "--prompt", "def main(", "-n", "12"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished f = ingot(words);
    EXPECT_EQ(f.exit_code, 0) << model << f.err;
    return f.out;
  }

  std::map<std::string, std::vector<float>> exact_;
};

void expect_said(const Finished& f, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(f.exit_code, code) << f.err;
  for (const auto& p : parts) EXPECT_NE(f.err.find(p), std::string::npos) << p << ": " << f.err;
}

TEST_F(StoredWeights, Fp8IsMultipliedIntoEveryOutput) {
  const std::string model = fp8_directory("fp8/m");
  expect_said(ingot({"convert", model, "--out", dir_ / "bf16/m"}), 0, {"42 weights are FP8", "multiplied by their scales", "BF16"});
  expect_exact(dir_ / "bf16/m", DType::kBF16);
  expect_said(ingot({"convert", model, "--dtype", "f32", "--out", dir_ / "f32/m"}), 0, {});
  expect_exact(dir_ / "f32/m", DType::kF32);
  // A plain directory of the exact weights gives the same files, with an adapter and without: nothing is rounded on the way.
  for (const std::vector<std::string>& adapter : {std::vector<std::string>{}, {"--adapter", example("lora-code")}})
    for (const char* from : {"fp8", "f32"}) {
      std::vector<std::string> words = {"ship", dir_ / (std::string(from) + "/m"), "--type", "F32,F16,Q8_0,Q4_K_M", "--out",
                                        dir_ / (std::string(from) + (adapter.empty() ? "-{type}.gguf" : "-merged-{type}.gguf")), "--force"};
      words.insert(words.end(), adapter.begin(), adapter.end());
      expect_said(ingot(words), 0, {});
    }
  for (const char* out : {"-F32.gguf", "-F16.gguf", "-Q8_0.gguf", "-Q4_K_M.gguf", "-merged-F32.gguf", "-merged-F16.gguf", "-merged-Q4_K_M.gguf"})
    EXPECT_TRUE(same_bytes(dir_ / (std::string("fp8") + out), dir_ / (std::string("f32") + out))) << out;
  // Without a type it is config.json's.
  expect_said(ingot({"convert", model, "--out", dir_ / "kept.gguf"}), 0, {});
  expect_said(ingot({"convert", dir_ / "bf16/m", "--out", dir_ / "plain.gguf"}), 0, {});
  EXPECT_TRUE(same_bytes(dir_ / "kept.gguf", dir_ / "plain.gguf"));
  EXPECT_EQ(text_of(model), text_of(dir_ / "kept.gguf"));
  expect_said(ingot({"lora", "merge", model, "--adapter", example("lora-code"), "--out", dir_ / "merged"}), 0, {});
  expect_said(ingot({"lora", "merge", dir_ / "f32/m", "--adapter", example("lora-code"), "--dtype", "bf16", "--out", dir_ / "want"}), 0, {});
  EXPECT_TRUE(same_bytes(dir_ / "merged/model.safetensors", dir_ / "want/model.safetensors"));
  EXPECT_EQ(read_file(dir_ / "merged/config.json").find("quantization_config"), std::string::npos);
}

TEST_F(StoredWeights, AScaleThatFitsNothingIsOneErrorBeforeTheFirstByte) {
  const std::string model = fp8_directory("m");
  nlohmann::json config = nlohmann::json::parse(read_file(model + "/config.json"));
  config["quantization_config"]["weight_block_size"] = {128, 128};
  write_file(model + "/config.json", config.dump());
  for (const std::string out : {"a.gguf", "a"})
    expect_said(ingot({"convert", model, "--out", dir_ / out}), 3, {"weight_scale_inv", "model.safetensors", "[2, 8]", "[256, 768]", "128 x 128 ([2, 6])"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {"m"}));
}

TEST_F(StoredWeights, AConfigurationLeftOverFloatsGoesWithANotice) {
  const std::string left = with_config("left/m", {{"quantization_config", {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}}}),
                    plain = with_config("plain/m", nlohmann::json::object());
  for (const std::string& model : {left, plain}) {
    const std::string out = dir_ / (model == left ? "left" : "plain");
    const Finished g = ingot({"ship", model, "--type", "Q4_K_M", "--out", out + ".gguf"}), c = ingot({"convert", model, "--dtype", "f16", "--out", out + "-f16"}),
                   l = ingot({"lora", "merge", model, "--adapter", example("lora-code"), "--out", out + "-merged"});
    for (const Finished& f : {g, c, l}) {
      EXPECT_EQ(f.exit_code, 0) << f.err;
      EXPECT_EQ(f.err.find("'quantization_config' (bitsandbytes) is left over") != std::string::npos, model == left) << f.err;
    }
  }
  EXPECT_TRUE(same_bytes(dir_ / "left.gguf", dir_ / "plain.gguf"));
  for (const char* file : {"-f16/model.safetensors", "-f16/config.json", "-merged/model.safetensors", "-merged/config.json"})
    EXPECT_EQ(read_file(dir_ / (std::string("left") + file)).find("quantization_config"), std::string::npos);
  EXPECT_TRUE(same_bytes(dir_ / "left-merged/model.safetensors", dir_ / "plain-merged/model.safetensors"));
  EXPECT_EQ(text_of(left), text_of(plain));
}

TEST_F(StoredWeights, QuantizedWeightsAreRefusedByTheirScheme) {
  const std::string model = with_config("m", {{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}}}});
  Artifact a = open_or_die(local_store(), model);
  a.tensors.push_back({"model.layers.0.self_attn.q_proj.qweight", make_memory_tensor({DType::kI32, {32, 256}}, std::vector<std::byte>(32 * 256 * 4))});
  const std::string config = read_file(model + "/config.json");
  a.files.clear();
  for (const auto& [file, bytes] : testing::render(hf_directory_output(a, local_store(), model, kDefaultShardBytes))) write_file(model + "/" + file, bytes);
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"convert", model, "--out", dir_ / "a.gguf"}, {"run", model, "--prompt", "x"},
        {"convert", model, "--dtype", "bf16", "--out", dir_ / "a"},
        {"lora", "merge", model, "--adapter", example("lora-code"), "--out", dir_ / "a"}})
    expect_said(ingot(words), 3, {"quantization_config", "gptq", "q_proj.qweight", "I32 [32, 256]", "dequantize()"});
  // A copy is a copy.
  EXPECT_EQ(ingot({"convert", model, "--out", dir_ / "copy", "--force-copy"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "copy/config.json", model + "/config.json"));
}

TEST_F(StoredWeights, ScaledAnglesRunTheSameFromTheDirectoryAndItsFile) {
  nlohmann::json longer, shorter;
  for (int i = 0; i < 16; ++i) longer.push_back(1 + i * 0.5), shorter.push_back(1 + i * 0.05);
  const nlohmann::json kinds[] = {
      {{"type", "linear"}, {"factor", 2.0}},
      {{"type", "dynamic"}, {"factor", 2.0}},
      {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}, {"beta_fast", 32}, {"beta_slow", 1}},
      {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}, {"attention_factor", 1.0}, {"beta_fast", 16}},
      {{"type", "su"}, {"short_factor", shorter}, {"long_factor", longer}, {"original_max_position_embeddings", 512}},
  };
  for (size_t i = 0; i < std::size(kinds); ++i) {
    const std::string model = with_config(fmt::format("m{}", i), {{"rope_theta", 10000.0}, {"rope_scaling", kinds[i]}}, {"rope_parameters"});
    const std::string gguf = dir_ / fmt::format("{}.gguf", i);
    const Finished f = ingot({"convert", model, "--out", gguf});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    EXPECT_EQ(f.err.find("rope scaling is dynamic: up to 2048 tokens") != std::string::npos, i == 1) << f.err;
    const std::string text = text_of(model, {"--json"});
    const auto ids = [](const std::string& out) { return nlohmann::json::parse(out)["ids"].dump(); };
    EXPECT_EQ(ids(text), ids(text_of(gguf, {"--json"}))) << kinds[i].dump();
    if (i == 1) {
      EXPECT_EQ(ids(text), ids(text_of(example("tiny-llama-base"), {"--json"})));
    }
  }
  // Beyond the original context the other factors hold, by the length that a text may come to.
  nlohmann::json at_12 = kinds[4];
  at_12["original_max_position_embeddings"] = 12;
  const std::string model = with_config("short", {{"rope_theta", 10000.0}, {"rope_scaling", at_12}}, {"rope_parameters"});
  EXPECT_EQ(ingot({"convert", model, "--out", dir_ / "short.gguf"}).exit_code, 0);
  const auto run = [](const std::string& m, const char* n) {
    const Finished f = ingot({"run", m, "-p", "def main(", "-n", n});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    return f.out;
  };
  const std::string within = run(model, "8"), beyond = run(model, "100");
  EXPECT_FALSE(beyond.starts_with(within.substr(0, within.size() - 1)));
  EXPECT_EQ(run(dir_ / "short.gguf", "8"), within);
  EXPECT_EQ(run(dir_ / "short.gguf", "100"), beyond);
}

}  // namespace
}  // namespace ingot::testing
