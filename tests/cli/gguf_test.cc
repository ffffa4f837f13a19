// GGUF both ways: to a Hugging Face directory and back, as blocks within safetensors and back, hostile files.
#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

const std::string kBase = example("tiny-llama-base");

std::string shown(const Finished& f) { return "exit " + std::to_string(f.exit_code) + "\n" + f.out + f.err; }

class Gguf : public CliTest {
 protected:
  void must(const std::vector<std::string>& words) const {
    const Finished f = ingot(words);
    ASSERT_EQ(f.exit_code, 0) << shown(f);
  }
  nlohmann::json json_of(std::vector<std::string> words) const {
    words.push_back("--json");
    const Finished f = ingot(words);
    EXPECT_EQ(f.exit_code, 0) << shown(f);
    return result_of(f);
  }
  static void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.exit_code, exit_code) << shown(f);
    for (const std::string& part : parts) EXPECT_NE((f.out + f.err).find(part), std::string::npos) << part << " in: " << shown(f);
  }
};

TEST_F(Gguf, ABaseThatWentThroughGgufIsTheSameModel) {
  must({"convert", kBase, "--type", "F32", "--out", dir_ / "f32.gguf"});
  must({"convert", kBase, "--out", dir_ / "bf16.gguf"});
  must({"convert", dir_ / "f32.gguf", "--out", dir_ / "f32"});
  must({"convert", dir_ / "bf16.gguf", "--out", dir_ / "bf16", "--dtype", "bf16"});
  const auto base = json_of({"hash", kBase}), f32 = json_of({"hash", dir_ / "f32"}), bf16 = json_of({"hash", dir_ / "bf16"});
  EXPECT_EQ(f32["value"], base["value"]);
  EXPECT_EQ(bf16["value"], base["value"]);
  EXPECT_EQ(bf16["exact"], base["exact"]) << "the directory's own bytes";
  const auto own = nlohmann::json::parse(read_file(kBase + "/config.json")), config = nlohmann::json::parse(read_file(dir_ / "bf16/config.json"));
  for (const char* key : {"architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
                          "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "bos_token_id", "eos_token_id"})
    if (own.contains(key)) {
      EXPECT_EQ(config[key], own[key]) << key;
    }
  EXPECT_EQ(config["dtype"], "bfloat16");
  EXPECT_EQ(nlohmann::json::parse(read_file(dir_ / "f32/config.json"))["dtype"], "float32");
  EXPECT_EQ(nlohmann::json::parse(read_file(dir_ / "bf16/tokenizer_config.json"))["chat_template"], read_file(kBase + "/chat_template.jinja"));
  for (const char* text : {"Hello world", " def f(x):\n\treturn x  # \u00fc\u00f1\u00ee \U0001F600", "<s> a</s>b", "   ", "12345 'll DON'T"}) {
    const auto ids = json_of({"tokenize", kBase, "--text", text})["ids"];
    EXPECT_EQ(json_of({"tokenize", dir_ / "bf16", "--text", text})["ids"], ids) << text;
  }
  // And it is a model: the same text, and the same GGUF again.
  const std::vector<std::string> more = {"-p", "def main", "-n", "8"};
  const auto run = [&](const std::string& model) {
    std::vector<std::string> words = {"run", model};
    words.insert(words.end(), more.begin(), more.end());
    return json_of(words)["text"];
  };
  EXPECT_EQ(run(dir_ / "bf16"), run(kBase));
  must({"convert", dir_ / "bf16", "--name", "Tiny Llama Base", "--out", dir_ / "again.gguf"});
  must({"convert", kBase, "--name", "Tiny Llama Base", "--out", dir_ / "named.gguf"});
  EXPECT_TRUE(same_bytes(dir_ / "again.gguf", dir_ / "named.gguf"));
}

TEST_F(Gguf, BlocksBecomeFloatsOfTheTypeThatIsAskedFor) {
  must({"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "q4.gguf"});
  expect_said(ingot({"convert", dir_ / "q4.gguf", "--out", dir_ / "f16"}), 0, {"no --dtype", "F16"});
  const auto types = json_of({"inspect", dir_ / "f16"})["types"];
  EXPECT_TRUE(types.contains("F16")) << types;
  EXPECT_FALSE(types.contains("Q4_K")) << types;
  EXPECT_EQ(json_of({"inspect", dir_ / "f16"})["config"]["dtype"], "float16");
  // In F32 the values are the blocks' own.
  must({"convert", dir_ / "q4.gguf", "--out", dir_ / "f32", "--dtype", "f32"});
  must({"convert", dir_ / "q4.gguf", "--out", dir_ / "one.safetensors", "--dtype", "f32"});
  must({"convert", dir_ / "f32", "--out", dir_ / "f32.gguf"});
  const auto statistics = [&](const std::string& model, const std::string& tensor) {
    auto j = json_of({"inspect", model, "--tensor", tensor});
    return std::vector<nlohmann::json>{j["mean"], j["min"], j["max"], j["first"]};
  };
  EXPECT_EQ(statistics(dir_ / "f32.gguf", "blk.0.attn_q.weight"), statistics(dir_ / "q4.gguf", "blk.0.attn_q.weight"));
  EXPECT_EQ(json_of({"hash", dir_ / "one.safetensors"})["exact"], json_of({"hash", dir_ / "f32"})["exact"]);
  expect_said(ingot({"convert", dir_ / "q4.gguf", "--out", dir_ / "x", "--keep-blocks", "--dtype", "f16"}), 2, {"--keep-blocks is for safetensors without --dtype"});
  expect_said(ingot({"convert", kBase, "--out", dir_ / "x", "--keep-blocks"}), 2, {"--keep-blocks is for GGUF files"});
}

TEST_F(Gguf, KeptBlocksAreTheGgufAgainBitForBit) {
  must({"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "q4.gguf"});
  must({"convert", dir_ / "q4.gguf", "--keep-blocks", "--out", dir_ / "q4.safetensors"});
  must({"convert", dir_ / "q4.gguf", "--keep-blocks", "--out", dir_ / "shards", "--max-shard-size", "1MB"});
  EXPECT_GT(entries(dir_ / "shards").size(), 4u);
  for (const char* kept : {"q4.safetensors", "shards"}) {
    must({"convert", dir_ / kept, "--out", dir_ / (std::string(kept) + ".gguf")});
    EXPECT_TRUE(same_bytes(dir_ / "q4.gguf", dir_ / (std::string(kept) + ".gguf"))) << kept;
    EXPECT_EQ(json_of({"hash", dir_ / kept})["value"], json_of({"hash", dir_ / "q4.gguf"})["value"]);
    EXPECT_EQ(json_of({"inspect", dir_ / kept})["types"], json_of({"inspect", dir_ / "q4.gguf"})["types"]);
    EXPECT_EQ(json_of({"tokenize", dir_ / kept, "--text", "Hello"})["ids"], json_of({"tokenize", dir_ / "q4.gguf", "--text", "Hello"})["ids"]);
  }
  EXPECT_EQ(json_of({"run", dir_ / "shards", "-p", "def", "-n", "4"})["text"], json_of({"run", dir_ / "q4.gguf", "-p", "def", "-n", "4"})["text"]);
}

// tests/attacks/make_gguf.py: each file gives the error that the table has for it, and names the file.
TEST_F(Gguf, HostileFilesGiveTheirErrors) {
  const std::string folder = INGOT_SOURCE_DIR "/tests/attacks/gguf";
  const auto table = nlohmann::json::parse(read_file(folder + ".json"));
  EXPECT_EQ(table.size(), entries(folder).size());
  for (const auto& [name, error] : table.items()) {
    const Finished f = ingot({"hash", folder + "/" + name});
    EXPECT_EQ(f.exit_code, 3) << name << ": " << shown(f);
    EXPECT_NE(f.err.find(error.get<std::string>()), std::string::npos) << name << ": " << shown(f);
    EXPECT_NE(f.err.find(name), std::string::npos) << name << ": " << shown(f);
    EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << shown(f);
  }
}

}  // namespace
}  // namespace ingot::testing
