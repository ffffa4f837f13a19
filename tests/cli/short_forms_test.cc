// What is taken where little is given: an adapter's own base, OUT and TYPE by position, the peers' spellings, --name, a path without a command.
#include <gtest/gtest.h>

#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

const std::string kBase = example("tiny-llama-base"), kLora = example("lora-code");

class ShortForms : public CliTest {
 protected:
  SpawnOptions here() const {
    SpawnOptions o;
    o.directory = dir_.path();
    o.set = {{"HF_HUB_CACHE", dir_ / "hub"}};
    return o;
  }
  Finished run(const std::vector<std::string>& words) { return ingot(words, here()); }
  void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
    for (const std::string& part : parts) EXPECT_NE((f.out + f.err).find(part), std::string::npos) << part << "\n" << f.out << f.err;
  }
  // The bundled adapter, with this as the name of its base ("null" or a text in quotes).
  std::string adapter_of(const std::string& base, const std::string& name = "lora") {
    fs::remove_all(dir_ / name);
    fs::copy(kLora, dir_ / name);
    auto config = nlohmann::json::parse(read_file(dir_ / (name + "/adapter_config.json")));
    config["base_model_name_or_path"] = nlohmann::json::parse(base);
    write_file(dir_ / (name + "/adapter_config.json"), config.dump());
    return name;
  }
  static std::string quoted(const std::string& s) { return "\"" + s + "\""; }
};
using ByPosition = ShortForms;
using Name = ShortForms;
using PathAlone = ShortForms;

TEST_F(ShortForms, AnAdapterFindsTheBaseThatItNames) {
  ASSERT_EQ(run({"ship", kBase, "--adapter", kLora, "--type", "Q4_K_M", "--out", "long.gguf"}).exit_code, 0);
  fs::create_directory_symlink(kBase, dir_ / "tiny-llama-base");
  const std::string out = "tiny-llama-base-lora-code-Q4_K_M.gguf";
  // From here, from the adapter's directory, by its whole path, in the cache under its name.
  const auto expect_found = [&](const std::string& base) {
    fs::rename(dir_ / adapter_of(quoted(base)), dir_ / "lora-code");
    const Finished f = run({"ship", "lora-code/"});
    expect_said(f, 0, {"assumed: base ", "--type Q4_K_M --out " + out});
    EXPECT_TRUE(same_bytes(dir_ / out, dir_ / "long.gguf")) << base;
    fs::remove(dir_ / out);
    expect_said(run({"run", "lora-code", "-p", "def", "-n", "2"}), 0, {"assumed: base "});
    expect_said(run({"doctor", "lora-code"}), 0, {"would convert it", "ingot ship lora-code", "odd           nothing"});
    fs::remove_all(dir_ / "lora-code");
  };
  expect_found("tiny-llama-base");
  expect_found("../tiny-llama-base");
  expect_found(dir_ / "tiny-llama-base");
  fs::create_directories(dir_ / "hub/models--org--tiny-llama-base/snapshots");
  fs::create_directory(dir_ / "hub/models--org--tiny-llama-base/refs");
  fs::rename(dir_ / "tiny-llama-base", dir_ / "hub/models--org--tiny-llama-base/snapshots/abcd");
  write_file(dir_ / "hub/models--org--tiny-llama-base/refs/main", "abcd");
  expect_found("org/tiny-llama-base");
  expect_found("/elsewhere/huggingface/hub/models--org--tiny-llama-base/snapshots/abcd");
  // The bundled one too, wherever one stands.
  expect_said(run({"ship", kLora}), 0, {"assumed: base "});
}

TEST_F(ShortForms, ABaseThatIsNotHereIsSaidWithWhatToDo) {
  expect_said(run({"ship", adapter_of("null")}), 3, {"does not name its base", "BASE --adapter lora"});
  expect_said(run({"ship", adapter_of(quoted(""))}), 3, {"does not name its base"});
  expect_said(run({"ship", adapter_of("7")}), 3, {"does not name its base"});
  expect_said(run({"ship", adapter_of(quoted("org/absent"))}), 3, {"'org/absent'", "hf download org/absent", "BASE --adapter lora"});
  expect_said(run({"ship", adapter_of(quoted("/elsewhere/base"))}), 3, {"'/elsewhere/base'", "BASE --adapter lora"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {"lora"}));
  // Only ship, run and doctor look for it: elsewhere a missing base is more likely a slip.
  expect_said(run({"convert", "lora", "x.gguf"}), 3, {"is an adapter, not a model"});
  expect_said(run({"doctor", adapter_of(quoted("org/absent"))}), 0, {"org/absent", "with --base DIR"});
}

TEST_F(ByPosition, AsThePeersUsersWriteThem) {
  fs::copy(kBase, dir_ / "base");
  ASSERT_EQ(run({"convert", "base", "--out", "f16.gguf", "--type", "F16"}).exit_code, 0);
  ASSERT_EQ(run({"quantize", "f16.gguf", "--type", "Q4_K_M", "--out", "q4.gguf"}).exit_code, 0);
  ASSERT_EQ(run({"lora", "merge", "base", "--adapter", kLora, "--out", "merged"}).exit_code, 0);
  const auto same = [&](const std::vector<std::string>& words, const std::string& out, const std::string& as) {
    const Finished f = run(words);
    EXPECT_EQ(f.exit_code, 0) << f.err;
    EXPECT_TRUE(same_bytes(dir_ / out, dir_ / as)) << words[0] << " " << out;
    fs::remove_all(dir_ / out);
  };
  same({"convert", "base", "1.gguf", "F16"}, "1.gguf", "f16.gguf");
  same({"convert", "base", "F16"}, "base-F16.gguf", "f16.gguf");
  same({"convert", "base", "--outfile", "2-{ftype}.gguf", "--outtype", "f16"}, "2-f16.gguf", "f16.gguf");
  same({"quantize", "f16.gguf", "3.gguf", "Q4_K_M"}, "3.gguf", "q4.gguf");
  same({"quantize", "f16.gguf", "3.gguf", "q4_k_m", "1"}, "3.gguf", "q4.gguf");
  same({"quantize", "f16.gguf", "3.gguf", "15"}, "3.gguf", "q4.gguf");
  same({"quantize", "f16.gguf", "Q4_K_M", "3.gguf"}, "3.gguf", "q4.gguf");
  same({"quantize", "f16.gguf", "Q4_K_M", "2"}, "f16-Q4_K_M.gguf", "q4.gguf");
  same({"quantize", "-m", "f16.gguf", "3.gguf", "Q4_K_M", "--max-buffer-size", "64"}, "3.gguf", "q4.gguf");
  same({"quantize", "f16.gguf"}, "f16-Q4_K_M.gguf", "q4.gguf");
  same({"lora", "merge", "base", kLora, "4"}, "4/model.safetensors", "merged/model.safetensors");
  same({"lora", "merge", "base", kLora, "-o", "5"}, "5/model.safetensors", "merged/model.safetensors");
  same({"lora", "merge", "base", "6", "--adapter", kLora}, "6/model.safetensors", "merged/model.safetensors");
  for (const auto& words : std::vector<std::vector<std::string>>{{"run", "-m", "q4.gguf", "-p", "def", "-n", "2"}, {"tokenize", "-m", "q4.gguf", "-p", "def"}})
    EXPECT_EQ(run(words).exit_code, 0);
  // One newline at the end of the file is the editor's.
  for (const auto& [file, prompt] : {std::pair("def main(", "def main("), {"def main(\n", "def main("}, {"def main(\n\n", "def main(\n"}}) {
    write_file(dir_ / "prompt.txt", file);
    EXPECT_EQ(run({"run", "-m", "q4.gguf", "-f", "prompt.txt", "-n", "2"}).out, run({"run", "q4.gguf", "-p", prompt, "-n", "2"}).out) << file;
    EXPECT_EQ(run({"tokenize", "q4.gguf", "-f", "prompt.txt"}).out, run({"tokenize", "q4.gguf", "-p", file}).out) << file;
  }
  // Several from one read, and what a model of one type is called when it gets another.
  const Finished two = run({"quantize", "base", "Q8_0,Q4_0"});
  expect_said(two, 0, {"assumed: --out 'base-{type}.gguf'"});
  EXPECT_TRUE(exists(dir_ / "base-Q8_0.gguf") && exists(dir_ / "base-Q4_0.gguf"));
  ASSERT_EQ(run({"convert", "base", "my-model.F16.gguf", "F16"}).exit_code, 0);
  expect_said(run({"quantize", "my-model.F16.gguf", "Q8_0"}), 0, {"my-model-Q8_0.gguf"});
}

TEST_F(ByPosition, WhatCouldBeEitherIsSettledByARuleThatIsTold) {
  write_file(dir_ / "Q8_0", "a file");
  fs::copy(kBase, dir_ / "base");
  // A type's name is the type, whatever lies here.
  expect_said(run({"quantize", "base", "Q8_0"}), 0, {"'Q8_0' is taken for the type", "./Q8_0", "base-Q8_0.gguf"});
  EXPECT_EQ(read_file(dir_ / "Q8_0"), "a file");
  EXPECT_EQ(run({"quantize", "base", "./Q6_K", "Q8_0"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "Q6_K", dir_ / "base-Q8_0.gguf"));
  // A slip in a type makes no file of that name.
  expect_said(run({"quantize", "base", "Q4KM"}), 2, {"'Q4KM' is no type", "Q4_K_M", "./Q4KM"});
  expect_said(run({"quantize", "base", "x.gguf", "Q4_KM"}), 2, {"'Q4_KM' is no type"});
  expect_said(run({"quantize", "base", "Q2_0"}), 2, {"does not write yet"});
  expect_said(run({"quantize", "base", "a.gguf", "b.gguf"}), 2, {"two outputs", "'a.gguf' and 'b.gguf'"});
  expect_said(run({"quantize", "base", "a.gguf", "--out", "b.gguf"}), 2, {"two outputs"});
  expect_said(run({"quantize", "base", "Q8_0", "Q4_0"}), 2, {"two types", "./Q4_0"});
  expect_said(run({"quantize", "base", "Q8_0", "--type", "Q4_0"}), 2, {"two types"});
  expect_said(run({"quantize", "-m", "base", "--model", "base", "Q8_0"}), 2, {"IN is given twice"});
  expect_said(run({"lora", "merge", "base", kLora}), 2, {"--out", "BASE ADAPTER OUT"});
  expect_said(run({"lora", "merge", "base"}), 2, {"--adapter"});
  expect_said(run({"convert", "base", "--dtype", "f16"}), 2, {"--out", "--dtype"});
  expect_said(run({"convert", "base-Q8_0.gguf"}), 2, {"--out", "is GGUF already"});
  expect_said(run({"convert", "base", "--to", "safetensors"}), 2, {"--out"});
  expect_said(run({"quantize", "base", "x.gguf", "--memory", "64M", "--max-buffer-size", "64"}), 2, {"give one"});
  // What follows "--" is a word whatever it begins with.
  EXPECT_EQ(run({"quantize", "base", "--", "-q.gguf", "Q8_0"}).exit_code, 0);
  EXPECT_TRUE(exists(dir_ / "-q.gguf"));
}

TEST_F(Name, IsGeneralNameOfWhateverIsWritten) {
  const auto name_of = [&](const std::string& file) { return result_of(run({"inspect", file, "--json"}))["metadata"]["general.name"]; };
  EXPECT_EQ(run({"ship", kBase, "--type", "Q8_0", "--name", "My Bot", "--quiet"}).exit_code, 0);
  EXPECT_EQ(name_of("My Bot-Q8_0.gguf"), "My Bot");
  EXPECT_EQ(run({"convert", kBase, "a.gguf", "--model-name", "My Bot"}).exit_code, 0);
  EXPECT_EQ(name_of("a.gguf"), "My Bot");
  EXPECT_EQ(run({"quantize", "a.gguf", "b.gguf", "Q8_0", "--name", "Another"}).exit_code, 0);
  EXPECT_EQ(name_of("b.gguf"), "Another");
  EXPECT_EQ(run({"quantize", "a.gguf", "c.gguf", "Q8_0"}).exit_code, 0);
  EXPECT_EQ(name_of("c.gguf"), "My Bot");
  // A merged directory keeps it for whoever converts it.
  EXPECT_EQ(run({"lora", "merge", kBase, kLora, "merged", "--name", "my-bot"}).exit_code, 0);
  EXPECT_EQ(run({"convert", "merged", "d.gguf"}).exit_code, 0);
  EXPECT_EQ(name_of("d.gguf"), "My Bot");
  // Whatever is in it, the file stays here.
  EXPECT_EQ(run({"ship", kBase, "--type", "Q8_0", "--name", "org/../bot"}).exit_code, 0);
  EXPECT_TRUE(exists(dir_ / "org-..-bot-Q8_0.gguf"));
  expect_said(run({"convert", kBase, "hf", "--dtype", "f16", "--name", "x"}), 0, {"--name changes nothing"});
  expect_said(run({"inspect", "a.gguf", "--name", "x"}), 0, {"--name changes nothing in 'ingot inspect'"});
}

TEST_F(PathAlone, SaysWhatLiesThereAndWhichCommandsFit) {
  fs::create_directory_symlink(kBase, dir_ / "a base");
  adapter_of(quoted("../a base"));
  // Each command that it prints works as it stands.
  const auto expect_pasted = [&](const std::string& given, size_t least) {
    const auto j = result_of(run({given, "--json"}));
    ASSERT_GE(j["commands"].size(), least) << j;
    for (std::string command : j["commands"]) {
      ASSERT_EQ(command.rfind("ingot ", 0), 0u) << command;
      for (const char* word : {"OUT"})
        if (const size_t at = command.find(word); at != std::string::npos) command.replace(at, 3, "out");
      Child child({"/bin/sh", "-c", "exec \"$0\" " + command.substr(6), INGOT_PROGRAM}, here());
      const Finished f = child.finish();
      EXPECT_EQ(f.exit_code, 0) << command << "\n" << f.err;
    }
  };
  const Finished model = run({"a base"});
  expect_said(model, 0, {"a base: a model", "LlamaForCausalLM", "ingot ship 'a base'", "a base-Q4_K_M.gguf"});
  expect_pasted("a base", 4);
  expect_said(run({"lora/"}), 0, {"lora/: an adapter", "ingot ship lora/", "ingot lora merge"});
  expect_pasted("lora/", 4);
  const Finished gguf = run({"a base-Q4_K_M.gguf"});
  expect_said(gguf, 0, {"a GGUF model, quantized", "Q4_K", "ingot run", "ingot verify"});
  EXPECT_EQ(gguf.out.find("ingot quantize"), std::string::npos) << gguf.out;
  expect_pasted("a base-Q4_K_M.gguf", 3);
  expect_said(run({adapter_of("null", "alone")}), 0, {"ingot ship BASE --adapter alone"});
  // A directory of models is told by them.
  expect_said(run({"."}), 0, {"no model itself", "ingot './a base'", "ingot ./lora", "ingot './a base-Q4_K_M.gguf'"});
  write_file(dir_ / "notes.txt", "nothing");
  expect_said(run({"notes.txt"}), 3, {"of no format that ingot knows"});
  expect_said(run({"./none"}), 3, {"no such file"});
  expect_said(run({"quantise"}), 2, {"no command 'quantise'", "ingot quantize"});
}

}  // namespace
}  // namespace ingot::testing
