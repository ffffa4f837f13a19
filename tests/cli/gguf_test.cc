// GGUF both ways: to a Hugging Face directory and back, as blocks within safetensors and back, splits, edits of the metadata, hostile files.
#include <filesystem>

#include "formats/gguf.h"
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

// Whatever else has the file's bytes, or lies beside it, is left alone; and the file stays whose it was.
TEST_F(Gguf, AnEditTouchesThatFileAlone) {
  namespace fs = std::filesystem;
  const auto path = [&](const std::string& name) { return dir_ / name; };
  const auto edit = [&](const std::string& name, const std::string& set) { return ingot({"gguf", "edit", path(name), "--set", set}); };
  const std::string shorter = "llama.rope.freq_base=7777", longer = "general.url=" + std::string(200, 'u');
  const auto value = [&](const std::string& name) { return json_of({"inspect", path(name)})["metadata"]["llama.rope.freq_base"]; };
  must({"convert", kBase, "--out", path("m.gguf")});
  fs::copy_file(path("m.gguf"), path("old.gguf"));
  // A snapshot by hard links keeps its bytes, either way.
  fs::create_hard_link(path("m.gguf"), path("backup"));
  expect_said(edit("m.gguf", shorter), 0, {"other names (hard links)", "a new file has taken its place"});
  EXPECT_TRUE(same_bytes(path("backup"), path("old.gguf")));
  EXPECT_EQ(value("m.gguf"), 7777.0);
  EXPECT_EQ(json_of({"hash", path("m.gguf")})["exact"], json_of({"hash", path("old.gguf")})["exact"]);
  EXPECT_EQ(ingot({"verify", path("m.gguf")}).exit_code, 0);
  // What is the user's beside it, and the file's own mode.
  write_file(path("m.gguf.edited"), "mine");
  fs::permissions(path("m.gguf"), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(edit("m.gguf", longer).exit_code, 0);
  EXPECT_EQ(read_file(path("m.gguf.edited")), "mine");
  EXPECT_EQ(fs::status(path("m.gguf")).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  // A link stays a link.
  fs::create_symlink("m.gguf", path("link.gguf"));
  for (const std::string& set : {std::string("llama.rope.freq_base=8888"), "general.url=" + std::string(300, 'v')}) {
    expect_said(edit("link.gguf", set), 0, {"is a link; the file that is edited is", "m.gguf"});
    EXPECT_TRUE(fs::is_symlink(path("link.gguf")));
  }
  EXPECT_EQ(value("m.gguf"), 8888.0);
  // Read-only is read-only, either way and for root as well.
  const std::string before = read_file(path("m.gguf"));
  fs::permissions(path("m.gguf"), fs::perms::owner_read);
  for (const std::string& set : {shorter, std::string("general.url=short")}) expect_said(edit("m.gguf", set), 1, {"changing ", "m.gguf: it is read-only", "chmod u+w", "--out"});
  EXPECT_TRUE(read_file(path("m.gguf")) == before);
  // Neither is what a Hub's cache names by its hash.
  const std::string folder = path("models--org--m");
  fs::create_directories(folder + "/blobs");
  fs::create_directories(folder + "/snapshots/abc");
  fs::copy_file(path("old.gguf"), folder + "/blobs/0123");
  fs::create_symlink("../../blobs/0123", folder + "/snapshots/abc/m.gguf");
  fs::create_symlink(folder + "/snapshots/abc/m.gguf", path("mine.gguf"));
  for (const std::string name : {"models--org--m/snapshots/abc/m.gguf", "models--org--m/blobs/0123", "mine.gguf"}) {
    expect_said(edit(name, shorter), 2, {"named by the hash of their bytes", "--out"});
    expect_said(edit(name, longer), 2, {"named by the hash of their bytes", "--out"});
  }
  EXPECT_TRUE(same_bytes(folder + "/blobs/0123", path("old.gguf")));
  must({"gguf", "edit", path("mine.gguf"), "--set", shorter, "--out", path("copy.gguf")});
  EXPECT_EQ(value("copy.gguf"), 7777.0);
  EXPECT_EQ(entries(dir_.path()), (std::vector<std::string>{"backup", "copy.gguf", "link.gguf", "m.gguf", "m.gguf.edited", "mine.gguf", "models--org--m", "old.gguf"}));
}

TEST_F(Gguf, AnEditGivesValuesTheTypeThatHoldsThem) {
  must({"convert", kBase, "--out", dir_ / "m.gguf"});
  const auto set = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"gguf", "edit", dir_ / "m.gguf"};
    for (const std::string& s : more) words.insert(words.end(), {"--set", s});
    return ingot(words);
  };
  EXPECT_EQ(set({"x.a=[1, 1.5]", "x.b=[1.5, 1]", "x.c=[-1, 5000000000]", "x.d=[5, -1]", "x.e=1e300", "x.null=null", "x.u8=u8:5", "x.bool=true", "x.none=u8:[]", "x.flag=True"}).exit_code, 0);
  const auto a = open_gguf_file(local_store(), dir_ / "m.gguf");
  ASSERT_TRUE(a.ok()) << a.error().message;
  const auto is = [&]<class T>(const char* key, const T& want) {
    const auto* v = std::get_if<T>(&a->meta(key)->v);
    EXPECT_TRUE(v && *v == want) << key;
  };
  is("x.a", std::vector<float>{1, 1.5});
  is("x.b", std::vector<float>{1.5, 1});
  is("x.d", std::vector<int32_t>{5, -1});
  is("x.e", 1e300);
  is("x.null", std::string("null"));
  is("x.flag", true);
  EXPECT_EQ(std::get<int64_t>(std::get<MetaArray>(a->meta("x.c")->v).at(1).v), 5000000000);
  EXPECT_EQ(std::get<MetaArray>(a->meta("x.none")->v).empty_of, static_cast<uint32_t>(GgufType::kU8));
  for (const char* no : {"False", "0", "false"}) EXPECT_EQ(set({std::string("x.bool=") + no}).exit_code, 0) << no;
  expect_said(set({"x.bool=maybe"}), 2, {"expected bool", "x.bool=str:maybe"});
  expect_said(set({"x.u8=-1"}), 2, {"expected u8", "--set x.u8=i8:-1"});
  expect_said(set({"x.u8=256"}), 2, {"--set x.u8=u16:256"});
  for (const std::string beyond : {"1e400", "123456789012345678901234567890"}) expect_said(set({"x.new=" + beyond}), 2, {"beyond", "x.new=str:" + beyond});
  expect_said(ingot({"gguf", "edit", dir_ / "m.gguf", "--set-file", "a=" + (dir_ / "nofile")}), 3, {"no such file"});
}

TEST_F(Gguf, AnEditThatWouldContradictIsRefused) {
  must({"convert", kBase, "--out", dir_ / "m.gguf"});
  must({"gguf", "split", dir_ / "m.gguf", dir_ / "p", "--split-max-tensors", "40"});
  for (const char* name : {"eos", "bos", "unknown", "padding", "eot", "fim_pre"})
    expect_said(ingot({"gguf", "edit", dir_ / "m.gguf", "--set", std::string("tokenizer.ggml.") + name + "_token_id=u32:4096"}), 3, {"_token_id is 4096, expected an id of the 4096 tokens", "--force"});
  expect_said(ingot({"gguf", "edit", dir_ / "p-00001-of-00002.gguf", "--set", "split.count=4"}), 3, {"split.count is of the set"});
  expect_said(ingot({"gguf", "edit", dir_ / "p-00001-of-00002.gguf", "--delete", "split.no"}), 3, {"split.no is of the set"});
  must({"gguf", "edit", dir_ / "m.gguf", "--set", "tokenizer.ggml.eos_token_id=5000", "--force"});
  expect_said(ingot({"inspect", dir_ / "m.gguf"}), 0, {"odd: tokenizer.ggml.eos_token_id is 5000"});
}

TEST_F(Gguf, WhatLlamaCppCannotReadOfTheTokenizerIsTold) {
  const std::string file = dir_ / "a.gguf", without = "no tokenizer.ggml.merges";
  must({"convert", kBase, "--out", file});
  expect_said(ingot({"gguf", "edit", file, "--delete", "tokenizer.ggml.merges", "--out", dir_ / "b.gguf"}), 0, {without});
  for (const char* command : {"inspect", "verify"}) {
    expect_said(ingot({command, dir_ / "b.gguf"}), 0, {without});
    EXPECT_EQ(ingot({command, file}).err.find(without), std::string::npos);
  }
  expect_said(ingot({"quantize", dir_ / "b.gguf", dir_ / "c.gguf", "Q8_0"}), 0, {without});
  expect_said(ingot({"gguf", "edit", file, "--set", "tokenizer.ggml.pre=unknown", "--set", "tokenizer.chat_template={% if x %}", "--out", dir_ / "d.gguf"}), 0,
              {"'unknown' is no name of a pre-tokenizer", "tokenizer.chat_template: the template cannot be read: line 1"});
  const Finished fine = ingot({"gguf", "edit", file, "--set", "tokenizer.ggml.pre=qwen2", "--set", "tokenizer.chat_template={{ x }}", "--out", dir_ / "e.gguf"});
  EXPECT_EQ(fine.err.find("warning"), std::string::npos) << fine.err;
}

TEST_F(Gguf, AnotherOrderOfBytesIsTold) {
  const std::string big = INGOT_SOURCE_DIR "/tests/data/gguf/big-endian.gguf";
  expect_said(ingot({"gguf", "edit", big, "--set", "general.name=a longer one", "--out", dir_ / "little.gguf"}), 0, {"is GGUF v3, big-endian; the new file is v3, little-endian"});
}

// Files of llama.cpp beside a model.
TEST_F(Gguf, WhatIsNoModelIsToldByItsName) {
  must({"convert", kBase, "--type", "F32", "--out", dir_ / "m.gguf"});
  const auto make = [&](const std::string& type) {
    must({"gguf", "edit", dir_ / "m.gguf", "--set", "general.type=" + type, "--force", "--out", dir_ / (type + ".gguf")});
    return dir_ / (type + ".gguf");
  };
  const std::string imatrix = make("imatrix");
  must({"gguf", "edit", imatrix, "--delete", "general.architecture", "--force"});
  const Finished told = ingot({imatrix}), inspected = ingot({"inspect", imatrix});
  expect_said(told, 0, {"an importance matrix of llama-imatrix", "imatrix.npz"});
  EXPECT_EQ(told.out.find("ingot run"), std::string::npos) << told.out;
  expect_said(inspected, 0, {"gguf (imatrix)"});
  EXPECT_EQ(inspected.out.find("general.architecture"), std::string::npos) << inspected.out;
  const std::string adapter = make("adapter"), lora = example("lora-code");
  for (const auto& [file, is] : {std::pair{imatrix, "is an importance matrix"}, {adapter, "is a LoRA adapter in GGUF"}})
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {"run", file, "-p", "x"}, {"tokenize", file, "--text", "x"}, {"quantize", file, dir_ / "q.gguf", "Q4_0"}, {"convert", file, dir_ / "c.gguf"}, {"convert", file, dir_ / "c"},
             {"ship", file, "--out", dir_ / "s.gguf"}, {"lora", "merge", file, "--adapter", lora, "--out", dir_ / "l"}})
      expect_said(ingot(command), 3, {is, "no model itself", "ingot " + file});
  expect_said(ingot({"doctor", imatrix}), 3, {"imatrix.gguf: an importance matrix", "no model, but an importance matrix"});
  expect_said(ingot({"ship", kBase, "--adapter", adapter, "--out", dir_ / "s.gguf"}), 3, {"is no PEFT adapter", "a LoRA adapter in GGUF", "--to peft"});
  must({"convert", imatrix, "--out", dir_ / "sums.npz"});
  must({"convert", imatrix, "--out", dir_ / "sums.safetensors"});
  EXPECT_EQ(json_of({"inspect", dir_ / "sums.safetensors"})["totals"]["tensors"], 57);
  expect_said(ingot({adapter}), 0, {"a LoRA adapter in GGUF", "--to peft"});
  EXPECT_EQ(json_of({"inspect", dir_ / "adapter.gguf"})["kind"], "gguf adapter");
  expect_said(ingot({make("mmproj")}), 0, {"(mmproj)"});
}

// A letter alone is 1000 here, as to llama-gguf-split.
TEST_F(Gguf, SizesOfFilesAreDecimal) {
  must({"convert", kBase, "--out", dir_ / "m.gguf"});
  for (const char* size : {"1500K", "1500KB", "1500000", "1500KiB"}) {
    must({"gguf", "split", dir_ / "m.gguf", dir_ / size, "--split-max-size", size, "--quiet"});
  }
  const auto count = [&](const std::string& prefix) {
    const auto all = entries(dir_.path());
    return std::count_if(all.begin(), all.end(), [&](const std::string& n) { return n.starts_with(prefix + "-"); });
  };
  EXPECT_EQ(count("1500K"), count("1500000"));
  EXPECT_EQ(count("1500K"), count("1500KB"));
  EXPECT_GT(count("1500K"), count("1500KiB"));
  expect_said(ingot({"gguf", "split", dir_ / "m.gguf", dir_ / "x", "--split-max-size", "0"}), 2, {"--split-max-size must be more than zero"});
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
