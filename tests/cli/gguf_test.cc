// GGUF both ways: to a Hugging Face directory and back, as blocks within safetensors and back, splits, edits of the metadata, hostile files.
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

TEST_F(Gguf, SplitsHaveLlamaCppsNamesAndMergeIntoTheSameFile) {
  must({"convert", kBase, "--out", dir_ / "m.gguf"});
  must({"gguf", "split", dir_ / "m.gguf", dir_ / "parts", "--split-max-tensors", "20"});
  for (const char* n : {"1", "2", "3"}) EXPECT_TRUE(exists(dir_ / ("parts-0000" + std::string(n) + "-of-00003.gguf"))) << n;
  must({"gguf", "merge", dir_ / "parts-00001-of-00003.gguf", dir_ / "merged.gguf"});
  EXPECT_TRUE(same_bytes(dir_ / "m.gguf", dir_ / "merged.gguf"));
  must({"gguf", "split", dir_ / "m.gguf", "--out", dir_ / "sized.gguf", "--split-max-size", "5M", "--no-tensor-first-split"});
  const auto first = json_of({"inspect", dir_ / "sized-00001-of-00004.gguf"});
  EXPECT_EQ(first["totals"]["tensors"], 57);
  EXPECT_LT(std::filesystem::file_size(dir_ / "sized-00001-of-00004.gguf"), 1000000u) << "metadata alone";
  must({"gguf", "merge", dir_ / "sized-00001-of-00004.gguf", "--out", dir_ / "again.gguf"});
  EXPECT_TRUE(same_bytes(dir_ / "m.gguf", dir_ / "again.gguf"));
  must({"gguf", "split", dir_ / "m.gguf", dir_ / "whole"});
  EXPECT_TRUE(exists(dir_ / "whole-00001-of-00001.gguf"));
  must({"gguf", "merge", dir_ / "whole-00001-of-00001.gguf", dir_ / "third.gguf"});
  EXPECT_TRUE(same_bytes(dir_ / "m.gguf", dir_ / "third.gguf"));
  expect_said(ingot({"gguf", "merge", dir_ / "parts-00002-of-00003.gguf", dir_ / "x.gguf"}), 3, {"give the first one"});
  expect_said(ingot({"gguf", "split", kBase, dir_ / "x"}), 3, {"expected a GGUF file"});
  expect_said(ingot({"gguf", "split", dir_ / "m.gguf"}), 2, {"PREFIX"});
  expect_said(ingot({"gguf", "spilt", dir_ / "m.gguf"}), 2, {"did you mean split?"});
}

TEST_F(Gguf, AnEditIsInPlaceOrANewFile) {
  must({"convert", kBase, "--out", dir_ / "m.gguf"});
  must({"convert", kBase, "--out", dir_ / "other.gguf"});
  const auto edit = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"gguf", "edit", dir_ / "m.gguf"};
    words.insert(words.end(), more.begin(), more.end());
    return json_of(words);
  };
  const auto metadata = [&](const std::string& name) { return json_of({"inspect", dir_ / name})["metadata"]; };
  const uint64_t inode = std::filesystem::file_size(dir_ / "m.gguf");
  // One number: in place, the data untouched.
  EXPECT_EQ(edit({"--set", "llama.rope.freq_base=123456"})["in_place"], true);
  EXPECT_EQ(metadata("m.gguf")["llama.rope.freq_base"], 123456.0);
  EXPECT_EQ(std::filesystem::file_size(dir_ / "m.gguf"), inode);
  EXPECT_EQ(edit({"--set", "llama.rope.freq_base=123456"})["in_place"], true) << "nothing to change";
  const auto exact = json_of({"hash", dir_ / "m.gguf"})["exact"];
  EXPECT_EQ(exact, json_of({"hash", dir_ / "other.gguf"})["exact"]);
  EXPECT_EQ(ingot({"verify", dir_ / "m.gguf"}).exit_code, 0) << "no hash is noted any more";
  // A text of another length, a new key, a key less: a new file.
  EXPECT_FALSE(edit({"--set", "general.name=" + std::string(100, 'n'), "--set", "my.list=[1, -2]", "--set", "my.flag=true", "--set", "my.byte=u8:7", "--delete", "general.size_label"})
                   .contains("in_place"));
  const auto m = metadata("m.gguf");
  EXPECT_EQ(m["general.name"], std::string(100, 'n'));
  EXPECT_EQ(m["my.list"], nlohmann::json({1, -2}));
  EXPECT_EQ(m["my.flag"], true);
  EXPECT_EQ(m["my.byte"], 7);
  EXPECT_FALSE(m.contains("general.size_label"));
  EXPECT_EQ(json_of({"hash", dir_ / "m.gguf"})["exact"], exact);
  EXPECT_EQ(entries(dir_.path()), (std::vector<std::string>{"m.gguf", "other.gguf"})) << "nothing is left behind";
  // A copy; the file stays.
  write_file(dir_ / "chat.txt", "{{ messages }}");
  must({"gguf", "edit", dir_ / "other.gguf", "--set-file", "tokenizer.chat_template=" + (dir_ / "chat.txt"), "--out", dir_ / "copy.gguf"});
  EXPECT_EQ(metadata("copy.gguf")["tokenizer.chat_template"], "{{ messages }}");
  EXPECT_NE(metadata("other.gguf")["tokenizer.chat_template"], "{{ messages }}");
  expect_said(ingot({"gguf", "edit", dir_ / "m.gguf", "--set", "llama.block_count=9"}), 3, {"would contradict itself", "block_count"});
  expect_said(ingot({"gguf", "edit", dir_ / "m.gguf", "--set", "llama.block_count=many"}), 2, {"expected u32"});
  expect_said(ingot({"gguf", "edit", dir_ / "m.gguf", "--set", "my.byte=256"}), 2, {"expected u8"});
  expect_said(ingot({"gguf", "edit", dir_ / "m.gguf", "--delete", "general.nam"}), 5, {"did you mean 'general.name'?"});
  expect_said(ingot({"gguf", "edit", dir_ / "m.gguf"}), 2, {"needs --set"});
  // The first file of a set has the set's metadata, and stays its first file.
  must({"gguf", "split", dir_ / "other.gguf", dir_ / "p", "--split-max-tensors", "40"});
  must({"gguf", "edit", dir_ / "p-00001-of-00002.gguf", "--set", "general.name=Edited"});
  EXPECT_EQ(metadata("p-00001-of-00002.gguf")["general.name"], "Edited");
  EXPECT_EQ(json_of({"hash", dir_ / "p-00001-of-00002.gguf"})["exact"], exact);
}

// tests/attacks/make_gguf.py: each file gives the error that the table has for it, and names the file.
TEST_F(Gguf, HostileFilesGiveTheirErrors) {
  const std::string folder = INGOT_SOURCE_DIR "/tests/attacks/gguf";
  const auto table = nlohmann::json::parse(read_file(folder + ".json"));
  EXPECT_EQ(table.size(), entries(folder).size());
  for (const auto& [name, error] : table.items()) {
    const bool tokens = name.starts_with("byte-token");
    const Finished f = tokens ? ingot({"tokenize", folder + "/" + name, "--text", "text"}) : ingot({"hash", folder + "/" + name});
    EXPECT_EQ(f.exit_code, 3) << name << ": " << shown(f);
    EXPECT_NE(f.err.find(error.get<std::string>()), std::string::npos) << name << ": " << shown(f);
    EXPECT_NE(f.err.find(name), std::string::npos) << name << ": " << shown(f);
    EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << shown(f);
  }
}

}  // namespace
}  // namespace ingot::testing
