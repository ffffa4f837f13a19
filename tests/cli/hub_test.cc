// Models by their names on the Hub: every command on a small cache made of the bundled model, as huggingface_hub lays one out.
#include <gtest/gtest.h>
#include <ingot/ingot.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

const std::string kBase = example("tiny-llama-base"), kLora = example("lora-code");
const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";

class Hub : public CliTest {
 protected:
  Hub() {
    fs::create_directory(dir_ / "here");
    add("org--tiny-llama-base", kBase);
  }
  // Files as blobs, the snapshot of links to them, and main.
  std::string add(const std::string& name, const std::string& from, const std::string& commit = kCommit, bool links = true) {
    const std::string folder = dir_ / ("hub/models--" + name), snapshot = folder + "/snapshots/" + commit;
    for (const char* part : {"/blobs", "/refs"}) fs::create_directories(folder + part);
    fs::create_directories(snapshot);
    for (const auto& e : fs::directory_iterator(from)) {
      const std::string file = e.path().filename();
      if (!links) {
        fs::copy(e.path(), snapshot + "/" + file);
        continue;
      }
      fs::copy(e.path(), folder + "/blobs/of-" + file, fs::copy_options::skip_existing);
      fs::create_symlink("../../blobs/of-" + file, snapshot + "/" + file);
    }
    write_file(folder + "/refs/main", commit);
    return snapshot;
  }
  SpawnOptions here() const {
    SpawnOptions o;
    o.directory = dir_ / "here";
    o.set = {{"HF_HUB_CACHE", dir_ / "hub"}};
    o.unset = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"};
    return o;
  }
  Finished run(const std::vector<std::string>& words) { return ingot(words, here()); }
  std::string made(const std::string& name) const { return dir_ / ("here/" + name); }
  void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
    for (const std::string& part : parts) EXPECT_NE((f.out + f.err).find(part), std::string::npos) << part << "\n" << f.out << f.err;
  }
};

TEST_F(Hub, AnIdStandsWhereverAModelDoes) {
  const std::string id = "org/tiny-llama-base", lora = "org/lora-code";
  add("org--lora-code", kLora);
  const std::vector<std::vector<std::string>> commands = {
      {"inspect", id}, {"doctor", id}, {"hash", id}, {"verify", id}, {"tokenize", id, "--text", "def"}, {"run", id, "-p", "def", "-n", "2"}, {id},
      {"convert", id, "--out", "c.gguf"}, {"convert", "hf://" + id + "@main", "hf/", "--dtype", "f32"}, {"quantize", id, "q.gguf", "Q8_0"},
      {"ship", id, "--adapter", lora, "--type", "Q8_0", "--out", "s.gguf"}, {"lora", "merge", id + "@0123", lora, "merged"},
      {"doctor", lora, "--base", id}, {"inspect", lora}};
  for (const auto& words : commands) EXPECT_EQ(run(words).exit_code, 0) << words[0] << "\n" << run(words).err;
  // The same bytes as by paths, under the model's own name, not the commit's.
  ASSERT_EQ(run({"ship", kBase, "--adapter", kLora, "--type", "Q8_0", "--out", "path.gguf"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(made("s.gguf"), made("path.gguf")));
  EXPECT_EQ(result_of(run({"inspect", "c.gguf", "--json"}))["metadata"]["general.name"], "Tiny Llama Base");
  EXPECT_EQ(nlohmann::json::parse(read_file(made("merged/config.json")))["_name_or_path"], "tiny-llama-base-lora-code");
}

TEST_F(Hub, ASnapshotsPathIsNamedAfterItsModelToo) {
  const std::string snapshot = dir_ / ("hub/models--org--tiny-llama-base/snapshots/" + kCommit);
  ASSERT_EQ(run({"convert", "org/tiny-llama-base", "id.gguf"}).exit_code, 0);
  ASSERT_EQ(run({"convert", snapshot, "path.gguf"}).exit_code, 0);
  ASSERT_EQ(run({"convert", snapshot + "/", "slash.gguf"}).exit_code, 0);
  SpawnOptions within = here();
  within.directory = snapshot;
  ASSERT_EQ(ingot({"convert", ".", made("dot.gguf")}, within).exit_code, 0);
  within.directory = dir_ / "hub/models--org--tiny-llama-base/snapshots";
  ASSERT_EQ(ingot({"convert", kCommit, made("commit.gguf")}, within).exit_code, 0);
  for (const char* name : {"path.gguf", "slash.gguf", "dot.gguf", "commit.gguf"}) EXPECT_TRUE(same_bytes(made("id.gguf"), made(name))) << name;
  // One job, whichever way its input is spelled.
  expect_said(run({"convert", snapshot, "id.gguf"}), 0, {"up to date"});
}

TEST_F(Hub, WhereTheCacheIsFollowsTheVariables) {
  SpawnOptions o = here();
  fs::create_directories(dir_ / "home/.cache/huggingface");
  fs::rename(dir_ / "hub", dir_ / "home/.cache/huggingface/hub");
  o.unset = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"};
  for (const auto& [name, value] : {std::pair{"HOME", "home"}, {"XDG_CACHE_HOME", "home/.cache"}, {"HF_HOME", "home/.cache/huggingface"},
                                    {"HUGGINGFACE_HUB_CACHE", "home/.cache/huggingface/hub"}}) {
    o.set = {{name, dir_ / value}};
    std::erase(o.unset, name);
    EXPECT_EQ(ingot({"inspect", "org/tiny-llama-base"}, o).exit_code, 0) << name;
    o.unset.push_back(name);
  }
}

TEST_F(Hub, OddCachesWorkAllTheSame) {
  write_file(dir_ / "hub/models--org--tiny-llama-base/refs/main", kCommit + "\n");
  EXPECT_EQ(run({"inspect", "org/tiny-llama-base"}).exit_code, 0);
  // Copies where links are not to be had (Windows).
  add("org--copies", kBase, kCommit, false);
  EXPECT_EQ(run({"quantize", "org/copies", "copies.gguf", "Q8_0"}).exit_code, 0);
  // Nothing is written there: a cache that may only be read will do.
  for (const auto& e : fs::recursive_directory_iterator(dir_ / "hub"))
    if (!e.is_symlink()) fs::permissions(e.path(), fs::perms::owner_write | fs::perms::group_write | fs::perms::others_write, fs::perm_options::remove);
  SpawnOptions reader = here();
  fs::permissions(dir_ / "here", fs::perms::all);
  fs::permissions(dir_.path(), fs::perms::all);
  if (::geteuid() == 0) reader.user = 65534;
  reader.set["XDG_CACHE_HOME"] = made("cache");
  const Finished f = ingot({"ship", "org/tiny-llama-base", "Q8_0"}, reader);
  expect_said(f, 0, {"assumed: --out tiny-llama-base-Q8_0.gguf"});
  for (const auto& e : fs::recursive_directory_iterator(dir_ / "hub"))
    if (!e.is_symlink()) fs::permissions(e.path(), fs::perms::owner_write, fs::perm_options::add);
}

TEST_F(Hub, ADirectoryNamedLikeTheOrganizationMakesItAPath) {
  fs::create_directory(made("org"));
  expect_said(run({"inspect", "org/tiny-llama-base"}), 3, {"no such file", "hf://org/tiny-llama-base"});
  EXPECT_EQ(run({"inspect", "hf://org/tiny-llama-base"}).exit_code, 0);
  fs::create_directory_symlink(kBase, made("org/tiny-llama-base"));
  EXPECT_EQ(result_of(run({"inspect", "org/tiny-llama-base", "--json"}))["path"], "org/tiny-llama-base");
}

TEST_F(Hub, WhatIsMissingIsNamedWithTheLineThatDownloadsIt) {
  const std::string folder = dir_ / "hub/models--org--tiny-llama-base", line = "hf download org/tiny-llama-base";
  const std::vector<std::vector<std::string>> commands = {
      {"inspect", "org/tiny-llama-base"}, {"run", "org/tiny-llama-base", "-p", "x"}, {"ship", "org/tiny-llama-base"},
      {"verify", folder + "/snapshots/" + kCommit}, {"org/tiny-llama-base"}};
  const auto expect_all = [&](const std::vector<std::string>& parts) {
    for (const auto& words : commands) expect_said(run(words), 3, parts);
  };
  fs::remove(folder + "/blobs/of-tokenizer.json");
  fs::rename(folder + "/blobs/of-model.safetensors", folder + "/blobs/of-model.safetensors.incomplete");
  expect_all({"incomplete", "model.safetensors, tokenizer.json", line});
  // As a download that was stopped leaves it: no link either.
  fs::remove(folder + "/snapshots/" + kCommit + "/model.safetensors");
  fs::copy(kBase + "/tokenizer.json", folder + "/blobs/of-tokenizer.json");
  expect_all({"unfinished downloads (blobs/of-model.safetensors.incomplete)", line});
  fs::remove(folder + "/blobs/of-model.safetensors.incomplete");
  expect_all({"no *.safetensors", line});
  // The Hub was asked and has none.
  fs::create_directories(folder + "/.no_exist/" + kCommit);
  write_file(folder + "/.no_exist/" + kCommit + "/model.safetensors", "");
  const Finished f = run({"inspect", "org/tiny-llama-base"});
  expect_said(f, 3, {"has no model.safetensors on the Hub"});
  EXPECT_EQ(f.err.find("hf download"), std::string::npos) << f.err;
  expect_said(run({"inspect", "org/other"}), 3, {"'org/other'", dir_ / "hub", "hf download org/other"});
  write_file(folder + "/refs/main", std::string(40, 'f'));
  expect_said(run({"inspect", "org/tiny-llama-base"}), 3, {std::string(40, 'f'), kCommit, line});
}

TEST_F(Hub, ShardsThatAreMissingAreNamed) {
  ASSERT_EQ(run({"convert", kBase, "sharded", "--max-shard-size", "4MB"}).exit_code, 0);
  const std::string snapshot = add("org--sharded", made("sharded")), line = "hf download org/sharded";
  EXPECT_EQ(run({"inspect", "org/sharded"}).exit_code, 0);
  std::vector<std::string> shards;
  for (const std::string& name : entries(snapshot))
    if (name.starts_with("model-")) shards.push_back(name);
  ASSERT_GT(shards.size(), 2u);
  fs::remove(dir_ / ("hub/models--org--sharded/blobs/of-" + shards[1]));
  expect_said(run({"inspect", "org/sharded"}), 3, {"incomplete", shards[1], line});
  fs::remove(snapshot + "/" + shards[1]);
  expect_said(run({"inspect", "org/sharded"}), 3, {shards[1], line});
  fs::remove(snapshot + "/model.safetensors.index.json");
  expect_said(run({"inspect", "org/sharded"}), 3, {shards[1], line});
}

TEST_F(Hub, OfALinkThatNobodyReadsNothingIsSaid) {
  fs::create_symlink("../../blobs/none", dir_ / ("hub/models--org--tiny-llama-base/snapshots/" + kCommit + "/README.md"));
  EXPECT_EQ(run({"inspect", "org/tiny-llama-base"}).exit_code, 0);
}

TEST_F(Hub, WeightsWithoutATokenizerAreToldOf) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) fs::remove(dir_ / ("hub/models--org--tiny-llama-base/snapshots/" + kCommit + "/" + name));
  expect_said(run({"lora", "merge", "org/tiny-llama-base", kLora, "m"}), 0, {"no tokenizer", "hf download org/tiny-llama-base"});
  for (const auto& words : std::vector<std::vector<std::string>>{{"ship", "org/tiny-llama-base"}, {"tokenize", "org/tiny-llama-base", "-p", "x"}, {"doctor", "org/tiny-llama-base"}}) {
    const Finished f = run(words);
    expect_said(f, 3, {"no tokenizer.json, tokenizer.model, tekken.json", "hf download"});
    const std::string said = f.out + f.err, once = "no tokenizer";
    EXPECT_EQ(said.find(once, said.find(once) + 1), std::string::npos) << said;
  }
}

// The library goes the same way.
TEST_F(Hub, AFileOfAModelIsNamedByItsPathOrItsType) {
  fs::create_directory(dir_ / "files");
  for (const char* type : {"F16", "Q8_0"}) ASSERT_EQ(ingot({"quantize", kBase, "--type", type, "--out", dir_ / (std::string("files/m-") + type + ".gguf")}).exit_code, 0);
  const std::string snapshot = add("org--m-GGUF", dir_ / "files");
  for (const char* name : {"org/m-GGUF:Q8_0", "org/m-GGUF:q8_0", "org/m-GGUF/m-Q8_0.gguf"})
    EXPECT_EQ(result_of(run({"inspect", name, "--json"}))["path"], snapshot + "/m-Q8_0.gguf") << name;
  expect_said(run({"inspect", "org/m-GGUF:Q4_K_M"}), 3, {snapshot, "no GGUF file of the type Q4_K_M, but m-F16.gguf, m-Q8_0.gguf"});
  expect_said(run({"inspect", "org/m-GGUF/m-Q8.gguf"}), 3, {snapshot + "/m-Q8.gguf': no such file", "did you mean"});
  expect_said(run({"inspect", "org/none/m.gguf"}), 3, {"'org/none/m.gguf'"});
  expect_said(run({"inspect", "org/none:Q8_0"}), 3, {"hf download org/none"});
  expect_said(run({"inspect", "org/m-GGUF/../x"}), 3, {"'org/m-GGUF/../x'"});
  expect_said(run({"quantize", "org/m-GGUF:F16", "Q4_0"}), 0, {"m-Q4_0.gguf"});
}

// What Unsloth's and PEFT's QLoRA leave: the adapter names the copy that it was trained on.
TEST_F(Hub, OfAQuantizedBaseTheOriginalIsNamed) {
  fs::copy(kLora, made("ul"));
  auto config = nlohmann::json::parse(read_file(made("ul/adapter_config.json")));
  config["base_model_name_or_path"] = "org/some-unsloth-bnb-4bit";
  write_file(made("ul/adapter_config.json"), config.dump());
  const char *download = "probably org/some: hf download org/some; then: ingot ship org/some --adapter ul";
  expect_said(run({"ship", "ul"}), 3, {"'org/some-unsloth-bnb-4bit'", "quantized copy", download});
  expect_said(run({"ul"}), 0, {"\n  hf download org/some\n", "ingot ship org/some --adapter ul"});
  expect_said(run({"run", "ul", "-p", "x"}), 3, {"then: ingot run org/some --adapter ul"});
  // The same where the copy is here.
  fs::copy(kBase, dir_ / "quantized");
  config = nlohmann::json::parse(read_file(dir_ / "quantized/config.json"));
  config["quantization_config"] = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}};
  write_file(dir_ / "quantized/config.json", config.dump());
  const std::string header = R"({"model.layers.0.mlp.down_proj.weight":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})";
  write_file(dir_ / "quantized/model.safetensors", std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header + "12345678");
  add("org--some-unsloth-bnb-4bit", dir_ / "quantized");
  expect_said(run({"ship", "ul"}), 3, {std::string("the weights are quantized: give the model that it was made from, ") + download});
  expect_said(run({"ship", "org/some-unsloth-bnb-4bit"}), 3, {"made from, probably org/some: hf download org/some. Or"});
  expect_said(run({"ship", dir_ / "quantized"}), 3, {"the weights are quantized: give the model that it was made from. Or"});
}

TEST_F(Hub, TheLibraryTakesIdsToo) {
  add("org--lora-code", kLora);
  const char* before = std::getenv("HF_HUB_CACHE");
  const std::optional<std::string> saved = before ? std::optional<std::string>(before) : std::nullopt;
  ::setenv("HF_HUB_CACHE", (dir_ / "hub").c_str(), 1);
  const auto base = ingot::open("org/tiny-llama-base");
  ASSERT_TRUE(base.ok()) << base.error().message;
  const auto merged = ingot::lora_merge(*base, {{"org/lora-code"}});
  EXPECT_TRUE(merged.ok()) << merged.error().message;
  const auto none = ingot::open("org/none");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("hf download org/none"), std::string::npos) << none.error().message;
  if (saved) ::setenv("HF_HUB_CACHE", saved->c_str(), 1);
  else ::unsetenv("HF_HUB_CACHE");
}

TEST_F(Hub, AnOutputIsNeverWrittenIntoTheCache) {
  expect_said(run({"convert", kBase, "hf://org/new"}), 3, {"hf:// is not there yet"});
}

}  // namespace
}  // namespace ingot::testing
