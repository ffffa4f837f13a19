// Models as they come: damaged, split, quantized already, under several spellings of their path, in directories that may
// not be read.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "cli/text.h"
#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;
using Models = CliTest;

const std::string kBase = example("tiny-llama-base");

std::string shown(const Finished& f) { return "exit " + std::to_string(f.exit_code) + "\n" + f.out + f.err; }
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The base with one value put into a bf16 tensor.
void damaged_base(const std::string& to, const std::string& tensor, uint64_t element, float value) {
  fs::copy(kBase, to);
  std::string file = read_file(to + "/model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  const auto j = nlohmann::json::parse(file.substr(8, header));
  uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  const auto half = static_cast<uint16_t>(bits >> 16);
  std::memcpy(file.data() + 8 + header + j[tensor]["data_offsets"][0].get<uint64_t>() + element * 2, &half, 2);
  write_file(to + "/model.safetensors", file);
}

// The value of a u32 key of a GGUF file.
void set_number(std::string* file, const std::string& key, uint32_t value) {
  const size_t at = file->find(key);
  ASSERT_NE(at, std::string::npos) << key;
  std::memcpy(file->data() + at + key.size() + 4, &value, 4);
}

TEST_F(Models, ANanIsNamedAsTheInputHasIt) {
  damaged_base(dir_ / "bad", "model.layers.0.self_attn.k_proj.weight", 3 * 256 + 5, std::nanf(""));
  const std::string where = "element [3, 5] of 'model.layers.0.self_attn.k_proj.weight' of " + (dir_ / "bad/model.safetensors");
  Finished f = ingot({"quantize", dir_ / "bad", "--type", "Q8_0", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_TRUE(has(f.err, where + " is NaN")) << f.err;
  f = ingot({"ship", dir_ / "bad", "--adapter", example("lora-code"), "--type", "Q4_K_M", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_TRUE(has(f.err, where + ", after the merge, is NaN")) << f.err;
  f = ingot({"run", dir_ / "bad", "--prompt", "def", "-n", "2"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_TRUE(has(f.err, where + " is NaN")) << f.err;
  EXPECT_TRUE(empty_but_for(dir_.path(), {"bad"}));
  // Kept in a float type, it is counted once, however many files it goes into.
  f = ingot({"quantize", dir_ / "bad", "--type", "F16,F32", "--out", dir_ / "{type}.gguf"});
  EXPECT_EQ(f.exit_code, 0) << shown(f);
  const std::string told = "1 NaN in 'model.layers.0.self_attn.k_proj.weight' of " + (dir_ / "bad/model.safetensors") + ", at [3, 5]";
  EXPECT_TRUE(has(f.err, "the source has NaN or infinity, which was kept as it is: " + told)) << f.err;
  // A GGUF's names and order, where that is the input.
  f = ingot({"quantize", dir_ / "F16.gguf", "--type", "Q8_0", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_TRUE(has(f.err, "element [6, 5] of 'blk.0.attn_k.weight' of " + (dir_ / "F16.gguf") + " is NaN")) << f.err;
  f = ingot({"inspect", dir_ / "F16.gguf", "--tensor", "blk.0.attn_k.weight"});
  EXPECT_TRUE(has(f.out, "1, 0; the first at [6, 5]")) << f.out;
}

TEST_F(Models, ABrokenGgufIsRefusedWhereItIsUsedAndShownWhereItIsLookedAt) {
  ASSERT_EQ(ingot({"convert", kBase, "--type", "F16", "--out", dir_ / "good.gguf"}).exit_code, 0);
  const std::string good = read_file(dir_ / "good.gguf");
  const auto changed = [&](const std::string& key, uint32_t value) {
    std::string bytes = good;
    set_number(&bytes, key, value);
    return bytes;
  };
  const struct {
    const char* what;
    std::string bytes;
    std::vector<std::string> parts;
  } cases[] = {{"layers", changed("llama.block_count", 5), {"'blk.5.", "block_count says 5 layers"}},
               {"hidden", changed("llama.embedding_length", 128), {"[4096, 256]", "embedding_length says rows of 128"}},
               {"ffn", changed("llama.feed_forward_length", 700), {"[768, 256]", "makes it [700, 256]"}},
               {"heads", changed("llama.attention.head_count", 0), {"head_count is 0", "at least 1"}},
               {"keys", changed("llama.attention.key_length", 64), {"key_length is 64", "value_length is 32"}},
               {"added bytes", good + std::string(1000, 'x'), {"ends at byte", "bytes were added"}},
               {"cut", good.substr(0, good.size() - 1000), {"needs bytes", "truncated"}}};
  for (const auto& c : cases) {
    const std::string file = dir_ / "bad.gguf";
    write_file(file, c.bytes);
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"quantize", file, "--type", "Q8_0", "--out", dir_ / "out.gguf"},
          {"quantize", file, "--type", "Q8_0", "--out", dir_ / "out.gguf", "--dry-run"},
          {"convert", file, "--type", "F32", "--out", dir_ / "out.gguf"},
          {"ship", file, "--type", "Q8_0", "--out", dir_ / "out.gguf"},
          {"lora", "merge", file, "--adapter", example("lora-code"), "--out", dir_ / "out"},
          {"run", file, "--prompt", "x", "-n", "1"},
          {"tokenize", file, "--text", "x"}}) {
      const Finished f = ingot(command);
      EXPECT_EQ(f.exit_code, 3) << c.what << " " << command[0] << shown(f);
      for (const auto& part : c.parts) EXPECT_TRUE(has(f.err, part)) << c.what << " " << command[0] << ": " << f.err;
      EXPECT_TRUE(has(f.err, file)) << f.err;
    }
    const Finished f = ingot({"inspect", file});
    EXPECT_EQ(f.exit_code, 0) << c.what << shown(f);
    EXPECT_TRUE(has(f.out, "odd: ")) << f.out.substr(0, 600);
    for (const auto& part : c.parts) EXPECT_TRUE(has(f.out, part)) << c.what << ": " << f.out.substr(0, 600);
    EXPECT_TRUE(has(f.out, "ffn_down.weight"));
    const auto j = result_of(ingot({"inspect", file, "--json"}));
    EXPECT_GE(j["odd"].size(), 1u) << c.what;
  }
  EXPECT_TRUE(empty_but_for(dir_.path(), {"bad.gguf", "good.gguf"}));
  const Finished f = ingot({"inspect", dir_ / "good.gguf", "--json"});
  EXPECT_FALSE(result_of(f).contains("odd")) << f.out;
}

TEST_F(Models, AQuantizedGgufBecomesFloats) {
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "q.gguf"}).exit_code, 0);
  for (const char* type : {"F32", "F16", "BF16"}) {
    const Finished f = ingot({"convert", dir_ / "q.gguf", "--type", type, "--out", dir_ / (std::string(type) + ".gguf")});
    ASSERT_EQ(f.exit_code, 0) << shown(f);
    EXPECT_TRUE(has(f.err, "keep the values that they have")) << f.err;
    const auto types = result_of(ingot({"inspect", dir_ / (std::string(type) + ".gguf"), "--json"}))["types"];
    for (const auto& [name, totals] : types.items()) EXPECT_TRUE(name == "F32" || name == type) << name;
  }
  // In f32 nothing is lost: the same text, and the same file from it as from the blocks.
  const Finished a = ingot({"run", dir_ / "F32.gguf", "--prompt", "def main(", "-n", "12"});
  EXPECT_EQ(a.exit_code, 0) << shown(a);
  ASSERT_EQ(ingot({"quantize", dir_ / "F32.gguf", "--type", "Q8_0", "--out", dir_ / "a.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"quantize", dir_ / "q.gguf", "--type", "Q8_0", "--allow-requantize", "--out", dir_ / "b.gguf"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / "b.gguf"));
}

// An option that an error names is one of the command that it tells to use.
TEST_F(Models, ARefusalNamesOnlyOptionsThatExist) {
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "q.gguf"}).exit_code, 0);
  const std::string quantize = ingot({"quantize", "--help"}).out, convert = ingot({"convert", "--help"}).out;
  ASSERT_TRUE(has(quantize, "--allow-requantize"));
  ASSERT_FALSE(has(convert, "--allow-requantize"));
  Finished f = ingot({"convert", dir_ / "q.gguf", "--type", "Q8_0", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_TRUE(has(f.err, "ingot quantize " + (dir_ / "q.gguf") + " --type Q8_0 --allow-requantize")) << f.err;
  f = ingot({"quantize", dir_ / "q.gguf", "--type", "Q8_0", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_TRUE(has(f.err, "or allow it with --allow-requantize")) << f.err;
}

TEST_F(Models, AGgufIsSplitAsLlamaGgufSplitDoes) {
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "one.gguf"}).exit_code, 0);
  const std::vector<std::string> parts = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
  const Finished f = ingot({"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "m.gguf", "--max-shard-size", "3MB", "--json"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  const auto outputs = result_of(f)["outputs"];
  ASSERT_EQ(outputs.size(), 3u) << f.out;
  uint64_t tensors = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(outputs[i]["path"], dir_ / parts[i]);
    EXPECT_EQ(outputs[i]["type"], "Q8_0");
    tensors += outputs[i]["tensors"].get<uint64_t>();
  }
  EXPECT_EQ(tensors, 57u);
  EXPECT_TRUE(empty_but_for(dir_.path(), {"one.gguf", parts[0], parts[1], parts[2]}));
  // Every command reads the set as one model; joined again it is the file that was not split.
  ASSERT_EQ(ingot({"convert", dir_ / parts[0], "--out", dir_ / "joined.gguf"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "one.gguf", dir_ / "joined.gguf"));
  const std::vector<std::string> text = {"--prompt", "def main(", "-n", "12"};
  const auto run = [&](const std::string& model) {
    std::vector<std::string> arguments = {"run", model};
    arguments.insert(arguments.end(), text.begin(), text.end());
    return ingot(arguments).out;
  };
  EXPECT_EQ(run(dir_ / parts[0]), run(dir_ / "one.gguf"));
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / parts[0], "--json"}))["tensors"].size(), 57u);
  // convert and ship split as well.
  ASSERT_EQ(ingot({"convert", dir_ / "one.gguf", "--out", dir_ / "c.gguf", "--max-shard-size", "3MB"}).exit_code, 0);
  const Finished s = ingot({"ship", kBase, "--type", "Q8_0", "--out", dir_ / "s.gguf", "--keep", "f16=" + (dir_ / "k.gguf"),
                            "--max-shard-size", "3MB", "--test", "def", "-n", "2", "--json"});
  ASSERT_EQ(s.exit_code, 0) << shown(s);
  EXPECT_EQ(result_of(s)["outputs"][0]["tests"].size(), 1u) << s.out;
  EXPECT_EQ(result_of(s)["outputs"][3]["kept"], "f16");
  for (const char* name : {"-00001-of-00003.gguf", "-00002-of-00003.gguf", "-00003-of-00003.gguf"})
    for (const char* stem : {"c", "s"}) EXPECT_TRUE(same_bytes(dir_ / (stem + std::string(name)), dir_ / ("m" + std::string(name)))) << stem << name;
  EXPECT_TRUE(exists(dir_ / "k-00001-of-00006.gguf")) << s.out;
  // What fits into one file is one, under its own name.
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "whole.gguf", "--max-shard-size", "1GB"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "one.gguf", dir_ / "whole.gguf"));
}

TEST_F(Models, APartOfASplitInputIsNoOutput) {
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "m.gguf", "--max-shard-size", "3MB"}).exit_code, 0);
  const std::string before = read_file(dir_ / "m-00002-of-00003.gguf");
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--out", dir_ / "m-00002-of-00003.gguf"},
                                               {"--out", dir_ / "m.gguf", "--max-shard-size", "3MB"}}) {
    std::vector<std::string> arguments = {"convert", dir_ / "m-00001-of-00003.gguf", "--force"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished f = ingot(arguments);
    EXPECT_EQ(f.exit_code, 2) << shown(f);
    EXPECT_TRUE(has(f.err, "input itself")) << f.err;
  }
  EXPECT_EQ(read_file(dir_ / "m-00002-of-00003.gguf"), before);
}

TEST_F(Models, TheNameDoesNotDependOnHowThePathIsSpelled) {
  fs::copy(kBase, dir_ / "base");
  SpawnOptions o;
  o.directory = dir_.path();
  o.set["MODEL"] = "base";
  ASSERT_EQ(ingot({"convert", "base", "--out", "plain.gguf"}, o).exit_code, 0);
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "plain.gguf", "--json"}))["metadata"]["general.name"], "Base");
  for (const std::string& spelling : {std::string("base/"), std::string("base//"), std::string("./base"), std::string("base/."),
                                      std::string("base/./"), dir_ / "base", dir_ / "base/", std::string("${MODEL}"),
                                      std::string("base/../base"), std::string("base/../base/.")}) {
    const Finished f = ingot({"convert", spelling, "--out", "a.gguf", "--force"}, o);
    ASSERT_EQ(f.exit_code, 0) << spelling << shown(f);
    EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / "plain.gguf")) << spelling;
  }
  // From within.
  o.directory = dir_ / "base";
  for (const char* spelling : {".", "./", "../base", "../base/."}) {
    const Finished f = ingot({"convert", spelling, "--out", "../a.gguf", "--force"}, o);
    ASSERT_EQ(f.exit_code, 0) << spelling << shown(f);
    EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / "plain.gguf")) << spelling;
  }
  // A merged directory says its name in its configuration.
  o.directory = dir_.path();
  fs::copy(example("lora-code"), dir_ / "lora");
  std::string first;
  for (const auto& [base, lora] : {std::pair{"base", "lora"}, {"./base/", "lora/"}, {"base/.", "../lora"}}) {
    if (std::string(lora).starts_with("..")) o.directory = dir_ / "base";
    const bool within = o.directory != dir_.path();
    const Finished f = ingot({"lora", "merge", within ? "." : base, "--adapter", lora, "--out", dir_ / "merged", "--force"}, o);
    ASSERT_EQ(f.exit_code, 0) << shown(f);
    const std::string config = read_file(dir_ / "merged/config.json");
    if (first.empty()) first = config;
    EXPECT_EQ(config, first) << base;
    EXPECT_TRUE(has(config, "base-lora")) << config;
  }
}

TEST_F(Models, WhatMayNotBeReadIsNotCalledMissing) {
  SpawnOptions o;
  if (::geteuid() == 0) o.user = 65534;  // root may read anything
  fs::copy(kBase, dir_ / "model");
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  for (const auto& e : fs::directory_iterator(dir_ / "model")) ::chmod(e.path().c_str(), 0644);
  ::chmod((dir_ / "model").c_str(), 0755);
  if (const Finished f = ingot({"inspect", dir_ / "model"}, o); f.exit_code != 0)
    GTEST_SKIP() << "the other user cannot read the program";
  const auto refused = [&](const std::string& path) {
    const Finished f = ingot({"inspect", path}, o);
    EXPECT_NE(f.exit_code, 0);
    EXPECT_TRUE(has(cli::lower(f.err), "permission")) << f.err;
    EXPECT_FALSE(has(f.err, "no such")) << f.err;
    EXPECT_FALSE(has(f.err, "there is no")) << f.err;
  };
  // Side files that would be left out, weights, a directory that may be listed but not entered, one that may not be listed.
  ::chmod((dir_ / "model/tokenizer.json").c_str(), 0);
  refused(dir_ / "model");
  ::chmod((dir_ / "model/tokenizer.json").c_str(), 0644), ::chmod((dir_ / "model/model.safetensors").c_str(), 0);
  refused(dir_ / "model");
  ::chmod((dir_ / "model/model.safetensors").c_str(), 0644), ::chmod((dir_ / "model").c_str(), 0444);
  refused(dir_ / "model");
  refused(dir_ / "model/model.safetensors");
  ::chmod((dir_ / "model").c_str(), 0);
  refused(dir_ / "model");
  const Finished f = ingot({"convert", kBase, "--out", dir_ / "model/sub/a.gguf"}, o);
  EXPECT_EQ(f.exit_code, 1) << shown(f);
  EXPECT_TRUE(has(cli::lower(f.err), "permission")) << f.err;
}

}  // namespace
}  // namespace ingot::testing
