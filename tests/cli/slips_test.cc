// What people write by habit of other tools, or by a slip: nothing of another kind is made of it, and what to write is said.
#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>

#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

const std::string kBase = example("tiny-llama-base"), kLora = example("lora-code");

class Slips : public CliTest {
 protected:
  Slips() {
    fs::create_directory_symlink(kBase, dir_ / "base");
    adapter("lora", "base");
  }
  // The bundled adapter, on a base of this name.
  void adapter(const std::string& at, const std::string& base) {
    fs::create_directories(fs::path(dir_ / at).parent_path());
    fs::copy(kLora, dir_ / at);
    auto config = nlohmann::json::parse(read_file(dir_ / (at + "/adapter_config.json")));
    config["base_model_name_or_path"] = base;
    write_file(dir_ / (at + "/adapter_config.json"), config.dump());
  }
  SpawnOptions here() const {
    SpawnOptions o;
    o.directory = dir_.path();
    o.set = {{"HF_HUB_CACHE", dir_ / "hub"}};
    o.unset = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"};
    return o;
  }
  Finished run(const std::vector<std::string>& words) { return ingot(words, here()); }
  void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
    for (const std::string& part : parts) EXPECT_NE((f.out + f.err).find(part), std::string::npos) << part << "\n" << f.out << f.err;
  }
  // Wrong usage, and nothing made.
  void refused(const std::vector<std::string>& words, const std::vector<std::string>& parts) {
    const auto before = entries(dir_.path());
    expect_said(run(words), 2, parts);
    EXPECT_EQ(entries(dir_.path()), before) << words[0] << " " << words.back();
  }
};
using Directories = Slips;
using Bases = Slips;

TEST_F(Slips, AWordThatIsNoTypeMakesNoFileOfThatName) {
  for (const char* word : {"Q8", "8bit", "int8", "Q4_K_XL", "UD-Q4_K_XL", "nonsense", "bfloat16"})
    refused({"quantize", "base", word}, {fmt::format("'{}' is no type", word), "there are F32", fmt::format("./{}", word)});
  for (const auto& [word, type] : {std::pair{"q8", "Q8_0"}, {"float16", "F16"}, {"half", "F16"}, {"bfloat16", "BF16"}, {"4bit", "Q4_K_M"}, {"q4_k_l", "Q4_K_M"}})
    for (const char* command : {"ship", "convert"})
      refused({command, "base", word}, {fmt::format("'{}' is no type (did you mean {}", word, type)});
  refused({"quantize", "base", "MXFP4"}, {"does not write yet"});
  refused({"quantize", "base", "o.gguf", "nonsense"}, {"'nonsense' is no type"});
  refused({"convert", "base", "o.gguf", "nonsense"}, {"'nonsense' is no type"});
  refused({"ship", "base", "-"}, {"standard output"});
  refused({"quantize", "base", "m-Q8_0.gguf"}, {"'m-Q8_0.gguf' would be Q4_K_M", "--type Q8_0"});
  refused({"ship", "base", "F16.gguf"}, {"--type F16"});
  // With a type it is the name; so it is where a directory is made.
  EXPECT_EQ(run({"quantize", "base", "nonsense", "Q8_0"}).exit_code, 0);
  EXPECT_EQ(run({"convert", "base", "float", "--force-copy"}).exit_code, 0);
  EXPECT_TRUE(exists(dir_ / "float/config.json") && exists(dir_ / "nonsense"));
}

TEST_F(Slips, OneDashAndAWordIsNoShortOptionWithItsRest) {
  ASSERT_EQ(run({"convert", "base", "m.gguf", "F16"}).exit_code, 0);
  refused({"ship", "lora", "-out"}, {"no option -out", "did you mean --out?"});
  refused({"convert", "base", "-outfile", "k.gguf"}, {"did you mean --outfile?"});
  refused({"run", "m.gguf", "-p", "x", "-temp", "0.5"}, {"did you mean --temp?"});
  refused({"run", "m.gguf", "-p", "x", "-seed", "5"}, {"did you mean --seed?"});
  refused({"run", "m.gguf", "-p", "x", "-ngl", "99"}, {"no option -ngl in 'ingot run': ", "CPU"});
  refused({"run", "-hf", "org/model", "-p", "x"}, {"-hf", "hf download org/model"});
  refused({"run", "m.gguf", "-sys", "X"}, {"--system"});
  refused({"run", "m.gguf", "-cnv"}, {"--chat"});
  refused({"run", "m.gguf", "-p", "x", "-c", "512"}, {"context"});
  refused({"ship", "lora", "-vx"}, {"no option -vx"});
  // Numbers are attached, flags stand together, and a value may begin with anything.
  const std::string two = run({"run", "m.gguf", "-p", "def", "-n", "2"}).out;
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"-n2", "-t1"}, {"-n=2"}, {"-n", "2", "-qv"}, {"--predict", "2", "--no-mmap"}}) {
    std::vector<std::string> all = {"run", "m.gguf", "-p", "def"};
    all.insert(all.end(), words.begin(), words.end());
    EXPECT_EQ(run(all).out, two) << words[0];
  }
  EXPECT_EQ(run({"tokenize", "m.gguf", "-p", "-temp"}).exit_code, 0);
  // Endless, up to the context.
  EXPECT_EQ(run({"run", "m.gguf", "-p", "def", "-n", "-1", "--stop", "e"}).exit_code, 0);
}

TEST_F(Slips, WhatOtherToolsHaveIsNamedAsItIsHere) {
  refused({"llama-quantize", "m.gguf", "Q4_K_M"}, {"'ingot quantize "});
  refused({"convert_hf_to_gguf.py", "base"}, {"'ingot convert "});
  for (const char* name : {"llama-gguf-split", "gguf-split", "split"}) refused({name, "m.gguf", "parts"}, {"'ingot gguf split ", "'ingot gguf merge "});
  refused({"gguf-merge", "m-00001-of-00002.gguf", "m.gguf"}, {"'ingot gguf merge "});
  for (const char* name : {"gguf_set_metadata.py", "gguf-set-metadata", "gguf_new_metadata.py", "edit"}) refused({name, "m.gguf"}, {"'ingot gguf edit "});
  refused({"llama-imatrix"}, {"'ingot imatrix MODEL"});
  refused({"version"}, {"ingot --version"});
  refused({"run", "base", "Hello"}, {"--prompt"});
  refused({"tokenize", "base", "Hello"}, {"--text"});
  refused({"run", "base", "lora", "-p", "x"}, {"--adapter"});
  refused({"ship", "base", "lora"}, {"'lora' is an adapter", "--adapter lora"});
  refused({"ship", "base", "--output", "x.gguf"}, {"did you mean --out?"});
  refused({"convert", "base", "--remote"}, {"hf download"});
  refused({"ship", "base", "--quant", "Q8_0"}, {"no option --quant", "ingot ship --help"});
  refused({"run", "base", "--chat", "-p", "x", "--chat-template-kwargs", "{bad"}, {"--chat-template-kwargs", "'{bad'"});
  expect_said(run({"run", "base", "--chat", "-p", "x", "--chat-template", "chatml"}), 3, {"neither a template of the model", "llama.cpp's built-in"});
  // A command's name, where something of that name lies.
  refused({"lora"}, {"ingot ./lora"});
  for (const char* command : {"ship", "convert", "quantize", "doctor"})
    for (const auto& [option, value] : {std::pair{"--out", ""}, {"--type", ""}, {"--base", ""}})
      EXPECT_EQ(run({command, "base", option, value}).exit_code, 2) << command << option;
  EXPECT_EQ(run({"ship", "--base", "base", "--adapter", "lora", "x.gguf"}).exit_code, 0);
  EXPECT_EQ(result_of(run({"--version", "--json"}))["ok"], true);
}

TEST_F(Slips, AFileOfTextIsNoModelOfTheHub) {
  fs::create_directories(dir_ / "hub/models--gpt2/snapshots/0123");
  for (const char* name : {"nofile", "gpt2"})
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"run", "base", "-f", name}, {"tokenize", "base", "-f", name}}) {
      const Finished f = run(words);
      expect_said(f, 3, {fmt::format("'{}': no such file", name)});
      EXPECT_EQ(f.err.find("hub"), std::string::npos) << f.err;
    }
}

TEST_F(Slips, ABosThatIsThereAlreadyIsTold) {
  const std::string bos = "<|begin_of_text|>";
  const char* told = "there are two now";
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"run", "base", "-n", "1", "-p"}, {"tokenize", "base", "-p"}}) {
    const auto said = [&](const std::string& text, const std::vector<std::string>& more) {
      std::vector<std::string> all = words;
      all.push_back(text);
      all.insert(all.end(), more.begin(), more.end());
      return run(all).err.find(told) != std::string::npos;
    };
    EXPECT_TRUE(said(bos + "x", {}));
    EXPECT_FALSE(said("x" + bos, {}));
    EXPECT_FALSE(said("x", {words[0] == "run" ? "--chat" : "--ids"}));
  }
  EXPECT_EQ(run({"tokenize", "base", "-p", bos + bos, "--no-special"}).err, "");
}

TEST_F(Slips, AnAdapterAmongTheWordsGivesTheLineThatIsMeant) {
  refused({"ship", "base", "lora"}, {"'lora' is an adapter; to fold it in: ingot ship base --adapter lora"});
  refused({"ship", "lora", "base"}, {"'lora' is an adapter and 'base' a model; to fold it in: ingot ship base --adapter lora"});
  refused({"lora", "merge", "lora", "out"}, {"'lora' is an adapter: ingot lora merge base lora out"});
  refused({"lora", "merge", "lora", "--out", "out"}, {"ingot lora merge base lora out"});
  refused({"lora", "merge", "lora"}, {"ingot lora merge base lora OUT"});
  refused({"lora", "merge", "base"}, {"as in: ingot lora merge BASE ADAPTER OUT"});
}

TEST_F(Slips, WhatIsNotFilledInInANameIsTold) {
  expect_said(run({"ship", "base", "F16", "--out", "{model}-{type}.gguf"}), 0, {"'{model}' in the output's name stays as it is"});
  EXPECT_EQ(run({"ship", "base", "F16", "--out", "${HF_HUB_CACHE}-{type}.gguf"}).err.find("stays as it is"), std::string::npos);
}

TEST_F(Slips, AnAdapterIsNotFoldedInTwiceUnasked) {
  refused({"ship", "lora", "--adapter", "./lora"}, {"given twice", "--weight 2"});
  refused({"run", "base", "--adapter", "lora", "--adapter", "lora/", "-p", "x"}, {"given twice"});
  expect_said(run({"ship", "base", "--adapter", "lora/adapter_model.safetensors"}), 3, {"give its directory: --adapter lora"});
  expect_said(run({"convert", "lora"}), 3, {"ingot ship lora F16", "ingot lora merge BASE lora OUT"});
  expect_said(run({"tokenize", "lora", "--text", "x"}), 3, {"ingot tokenize base"});
  // What lies beside a model.
  for (const char* command : {"quantize", "convert", "ship"})
    expect_said(run({command, data_file("checkpoints/hf-trainer-bf16/ckpt/checkpoint-3/optimizer.pt"), "--out", "o.gguf"}), 3, {"it is an optimizer's state", "no model"});
  write_file(dir_ / "data.jsonl", "{\"text\": \"caf\u00e9\"}\n");
  expect_said(run({"ship", "data.jsonl"}), 3, {"it is text, not weights"});
  write_file(dir_ / "data.parquet", "PAR1\x15\x04");
  expect_said(run({"ship", "data.parquet"}), 3, {"a Parquet file, a dataset's"});
}

TEST_F(Slips, QuietLeavesTheTextOfATest) {
  const Finished f = run({"ship", "base", "--test", "def main(", "-n", "4", "-q"});
  EXPECT_EQ(f.err, "");
  EXPECT_EQ(f.out, run({"run", "base-Q4_K_M.gguf", "-p", "def main(", "-n", "4"}).out);
}

TEST_F(Directories, TakeTheFileUnderItsUsualName) {
  fs::create_directory(dir_ / "out");
  EXPECT_EQ(run({"convert", "base", "--outfile", "out", "--outtype", "f16"}).exit_code, 0);
  expect_said(run({"ship", "lora", "out/", "Q8_0"}), 0, {"--out out/base-lora-Q8_0.gguf"});
  EXPECT_EQ(run({"quantize", "out/base-F16.gguf", "out", "Q4_0"}).exit_code, 0);
  EXPECT_TRUE(empty_but_for(dir_ / "out", {"base-F16.gguf", "base-lora-Q8_0.gguf", "base-Q4_0.gguf"}));
}

TEST_F(Directories, OfOneModelInGgufAreThatModel) {
  fs::create_directory(dir_ / "gd");
  ASSERT_EQ(run({"quantize", "base", "gd/m.gguf", "Q8_0", "--max-shard-size", "2MB"}).exit_code, 0);
  ASSERT_GT(entries(dir_ / "gd").size(), 1u);
  write_file(dir_ / "gd/mmproj-m.gguf", "of the part that sees");
  write_file(dir_ / "gd/config.json", "{\"model_type\": \"llama\"}");
  expect_said(run({"run", "gd", "-p", "def", "-n", "2"}), 0, {"assumed: model gd/m-00001-of-"});
  expect_said(run({"inspect", "gd/"}), 0, {"gguf"});
  expect_said(run({"gd"}), 0, {"a GGUF model", "ingot run gd"});
  write_file(dir_ / "gd/n.gguf", read_file(dir_ / ("gd/" + entries(dir_ / "gd")[1])));
  expect_said(run({"run", "gd", "-p", "def"}), 3, {"2 models in GGUF", "n.gguf", "give one"});
}

TEST_F(Directories, OfABrokenModelSayWhatIsBroken) {
  fs::copy(kBase, dir_ / "run");
  fs::copy(kBase, dir_ / "run/checkpoint-5");
  fs::remove(dir_ / "run/model.safetensors");
  expect_said(run({"./run"}), 0, {"checkpoint-5 is taken, its only checkpoint"});
  write_file(dir_ / "run/model.safetensors", "cut off");
  expect_said(run({"./run"}), 3, {"model.safetensors", "checkpoint-5"});
  fs::remove(dir_ / "run/model.safetensors");
  fs::remove(dir_ / "run/config.json");
  fs::rename(dir_ / "run/checkpoint-5", dir_ / "run/old");
  expect_said(run({"./run"}), 0, {"no model itself", "ingot ./run/old"});
}

TEST_F(Bases, BesideTheAdapterAreFound) {
  fs::create_directory(dir_ / "x");
  fs::create_directory_symlink(kBase, dir_ / "x/M");
  adapter("x/lora", "M/");
  expect_said(run({"ship", "x/lora", "--dry-run"}), 0, {"assumed: base x/M"});
  adapter("x/file", "notes");
  write_file(dir_ / "x/notes", "a file");
  expect_said(run({"ship", "x/file"}), 3, {"'notes'", "which is a file"});
  adapter("second", "lora");
  expect_said(run({"ship", "second"}), 3, {"'lora', which is an adapter itself", "BASE --adapter lora --adapter second"});
}

TEST_F(Bases, ThatAreNotHereAreTheFirstThingToFetch) {
  adapter("absent", "org/absent");
  const auto j = result_of(run({"absent", "--json"}));
  EXPECT_EQ(j["commands"][0], "hf download org/absent");
  EXPECT_EQ(j["commands"][1], "ingot ship absent --test 'Hello'");
  expect_said(run({"ship", "absent"}), 3, {"hf download org/absent", "ingot ship BASE --adapter absent"});
  expect_said(run({"run", "https://huggingface.co/org/model/tree/main", "-p", "x"}), 3, {"hf download org/model, then give org/model"});
  expect_said(run({"run", "org/model/", "-p", "x"}), 3, {"hf download org/model"});
}

TEST_F(Bases, OfTheCacheAreFoundWithoutHome) {
  SpawnOptions o = here();
  o.set.clear();
  o.unset = {"HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"};
  expect_said(ingot({"inspect", "org/absent"}, o), 3, {std::string(::getpwuid(::getuid())->pw_dir) + "/.cache/huggingface/hub"});
}

}  // namespace
}  // namespace ingot::testing
