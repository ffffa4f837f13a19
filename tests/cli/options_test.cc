// What options mean: names of types, --quiet and -v, --type auto, --verify and --rank-timeout, --pre-tokenizer.
#include <gtest/gtest.h>

#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

using Types = CliTest;
using Quiet = CliTest;
using Verbose = CliTest;
using Options = CliTest;

const std::string kBase = example("tiny-llama-base");
const std::string kLora = example("lora-code");

void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(f.exit_code, exit_code) << f.err;
  for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
}

TEST_F(Types, LlamaQuantizesOtherNamesAreItsMixes) {
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "m.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q5_K_M", "--out", dir_ / "n.gguf"}).exit_code, 0);
  for (const auto& [given, file, same] : {std::tuple{"Q4_K", "Q4_K_M.gguf", "m.gguf"}, {"q4_k", "Q4_K_M.gguf", "m.gguf"},
                                          {"15", "Q4_K_M.gguf", "m.gguf"}, {"q5_k", "Q5_K_M.gguf", "n.gguf"}}) {
    const Finished f = ingot({"quantize", kBase, "--type", given, "--out", dir_ / "{type}.gguf", "--force"});
    expect_said(f, 0, {std::string("--type ") + given, file == std::string("Q4_K_M.gguf") ? "Q4_K_M" : "Q5_K_M", "llama-quantize"});
    EXPECT_TRUE(same_bytes(dir_ / file, dir_ / same)) << given;
  }
  // Lower case is the same name, nothing to tell.
  const Finished f = ingot({"quantize", kBase, "--type", "q5_k_m", "--out", dir_ / "{type}.gguf", "--force"});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(f.err, "");
  EXPECT_TRUE(same_bytes(dir_ / "Q5_K_M.gguf", dir_ / "n.gguf"));
  expect_said(ingot({"quantize", kBase, "--type", "Q4_K,Q4_K_M", "--out", dir_ / "two-{type}.gguf"}), 2, {"two outputs"});
}

TEST_F(Types, ATypeThatIsNotWrittenYetIsNoTypo) {
  for (const char* type : {"Q1_0", "q2_0", "40"}) {
    for (const std::string command : {"quantize", "ship"}) {
      const Finished f = ingot({command, kBase, "--type", type, "--out", dir_ / "x.gguf"});
      expect_said(f, 2, {std::string("--type ") + type, "does not write yet", "Q4_K_M"});
      EXPECT_EQ(f.err.find("did you mean"), std::string::npos) << f.err;
    }
  }
  for (const char* option : {"--tensor-type", "--output-tensor-type", "--token-embedding-type"}) {
    const auto with = [&](const std::string& type) {
      return ingot({"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "x.gguf", option,
                    (option == std::string("--tensor-type") ? "attn_v=" : "") + type});
    };
    for (const char* type : {"q1_0", "Q2_0", "Q8_K"}) {
      const Finished f = with(type);
      expect_said(f, 2, {option, "does not write yet"});
      EXPECT_EQ(f.err.find("did you mean"), std::string::npos) << f.err;
    }
    expect_said(with("Q4_K_M"), 2, {option, "Q4_K_M", "mix", "most of its tensors are Q4_K"});
    expect_said(with("IQ3_M"), 2, {option, "IQ3_M", "mix"});
    expect_said(with("Q4_KK"), 2, {option, "'Q4_KK'", "did you mean Q4_K?"});
    expect_said(with("nonsense"), 2, {option, "'nonsense'", "Q6_K"});
  }
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Types, AMisspeltTypeGetsTheNearest) {
  const auto with = [&](const std::string& type) { return ingot({"quantize", kBase, "--type", type, "--out", dir_ / "x.gguf"}); };
  expect_said(with("Q4KM"), 2, {"'Q4KM'", "did you mean Q4_K_M?"});
  expect_said(with("q8-0"), 2, {"'q8-0'", "did you mean Q8_0?"});
  expect_said(with("IQ4_XSS"), 2, {"did you mean IQ4_XS?"});
  expect_said(with("nonsense"), 2, {"'nonsense'", "Q4_K_M"});
  expect_said(with("99"), 2, {"'99'"});
  expect_said(with("COPY"), 2, {"ingot convert"});
  // Of a tensor, and of no file.
  expect_said(with("MXFP4"), 2, {"--type MXFP4", "the type of a tensor", "--tensor-type PATTERN=MXFP4", "MXFP4_MOE"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Types, AutoIsTheFloatTypeOfTheWeights) {
  for (const auto& [dtype, type] : {std::pair{"bf16", "BF16"}, {"f16", "F16"}, {"f32", "F16"}}) {
    const std::string model = dir_ / dtype + "/tiny-llama-base", name = std::string("auto-") + type + dtype + ".gguf";
    std::filesystem::create_directory(dir_ / dtype);
    ASSERT_EQ(ingot({"convert", kBase, "--out", model, "--dtype", dtype, "--force-copy"}).exit_code, 0);
    const Finished f = ingot({"convert", model, "--outtype", "auto", "--outfile", dir_ / ("auto-{type}" + std::string(dtype) + ".gguf")});
    expect_said(f, 0, {std::string("auto: ") + type});
    ASSERT_EQ(ingot({"convert", model, "--type", type, "--out", dir_ / "named.gguf", "--force"}).exit_code, 0);
    EXPECT_TRUE(same_bytes(dir_ / name, dir_ / "named.gguf")) << dtype;
  }
  expect_said(ingot({"convert", kBase, "--type", "auto", "--out", dir_ / "hf"}), 2, {"--type auto", "--dtype"});
  expect_said(ingot({"quantize", kBase, "--type", "auto", "--out", dir_ / "x.gguf"}), 2, {"'auto'"});
}

TEST_F(Quiet, NothingIsPrintedButErrorsAndWhatWasAskedFor) {
  // Each would say something: a result, a notice, a warning, a text.
  const std::vector<std::vector<std::string>> jobs = {
      {"ship", kBase, "--adapter", kLora, "--type", "q4_k", "--out", dir_ / "a.gguf"},
      {"ship", kBase, "--type", "Q8_0", "--out", dir_ / "b.gguf", "-n", "8"},
      {"convert", kBase, "--type", "auto", "--out", dir_ / "c.gguf"},
      {"convert", kBase, "--out", dir_ / "d.gguf", "--pre-tokenizer", "qwen2"},
      {"quantize", kBase, "--type", "Q4_0", "--out", dir_ / "e.gguf"},
      {"lora", "merge", kBase, "--adapter", kLora, "--dtype", "f16", "--out", dir_ / "f"},
      {"quantize", kBase, "--type", "Q4_0", "--out", dir_ / "g.gguf", "--dry-run"}};
  for (const auto& job : jobs)
    for (const char* option : {"--quiet", "-q"})
      for (const bool terminal : {false, true}) {
        auto words = job;
        words.insert(words.end(), {option, "-v", "--force"});
        SpawnOptions o;
        o.terminal = terminal;
        o.set = {{"TERM", "xterm"}};
        const Finished f = ingot(words, o);
        EXPECT_EQ(f.exit_code, 0) << f.err;
        EXPECT_EQ(f.out + f.err, "") << words[0] << " " << words.back();
      }
  // The text, the ids, the list are what was asked for.
  const Finished run = ingot({"run", kBase, "-p", "The", "-n", "4", "--quiet", "--top-k", "3"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(run.out, ingot({"run", kBase, "-p", "The", "-n", "4"}).out);
  EXPECT_GT(run.out.size(), 1u);
  for (const std::vector<std::string>& words : {std::vector<std::string>{"tokenize", kBase, "--text", "a b"}, {"list", "types"}, {"inspect", kBase}}) {
    auto quiet = words;
    quiet.emplace_back("-q");
    EXPECT_EQ(ingot(quiet).out, ingot(words).out);
    EXPECT_EQ(ingot(quiet).err, "");
  }
  const Finished bad = ingot({"quantize", dir_ / "none.gguf", "--type", "Q4_0", "--out", dir_ / "x.gguf", "-q"});
  expect_said(bad, 3, {"error", "none.gguf"});
}

TEST_F(Quiet, LeavesTheObjectThatJsonAskedFor) {
  const Finished f = ingot({"ship", kBase, "--type", "q4_k", "--out", dir_ / "a.gguf", "--test", "def", "-n", "4", "--json", "--quiet"});
  EXPECT_EQ(f.err, "");
  EXPECT_EQ(result_of(f)["outputs"][0]["tests"].size(), 1u);
  const Finished bad = ingot({"inspect", dir_ / "none", "-q", "--json"});
  EXPECT_EQ(events_of(bad.err).size(), 1u);
  EXPECT_EQ(result_of(bad)["ok"], false);
}

TEST_F(Verbose, TellsWhatWasOpenedAssumedPlannedAndHowLongItTook) {
  const Finished f = ingot({"ship", kBase, "--adapter", kLora, "--type", "Q4_K_M", "--out", dir_ / "a.gguf", "-v", "--threads", "2",
                            "--test", "def", "-n", "4"});
  expect_said(f, 0, {"opened '" + kBase + "': safetensors, 57 tensors", "opened '" + kLora + "': peft", "architecture llama",
                     "llama-bpe (found by its rules)", "Q4_K_M: tensors by type: 13 F32", "2 threads", "kernels", "memory",
                     "the least that works", "ingot: job ", "opening and planning", "writing", "verifying", "tokens/s"});
  const Finished plain = ingot({"ship", kBase, "--adapter", kLora, "--type", "Q5_K_M", "--out", dir_ / "b.gguf"});
  EXPECT_EQ(plain.err, "");
  expect_said(ingot({"convert", kBase, "--out", dir_ / "c.gguf", "--verbose"}), 0, {"no --type: the weights stay BF16"});
  expect_said(ingot({"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "d.gguf", "-v", "--pre-tokenizer", "qwen2"}), 0,
              {"qwen2 (--pre-tokenizer)"});
  expect_said(ingot({"run", kBase, "-p", "a", "-n", "2", "-v"}), 0, {"opened '" + kBase});
}

TEST_F(Options, StrictRefusesWhatGgufCannotSay) {
  const std::string words = "--pre-tokenizer";
  expect_said(ingot({"convert", kBase, "--out", dir_ / "a.gguf", words, "qwen2"}), 0, {"GGUF cannot say by which rules", "\"00\""});
  for (const std::vector<std::string>& command : {std::vector<std::string>{"convert", kBase}, {"quantize", kBase, "--type", "Q8_0"},
                                                  {"ship", kBase, "--type", "Q8_0"}}) {
    auto strict = command;
    strict.insert(strict.end(), {"--strict", "--out", dir_ / "b.gguf", "--force"});
    EXPECT_EQ(ingot(strict).exit_code, 0);  // GGUF says all of this model
    strict.insert(strict.end(), {words, "qwen2"});
    expect_said(ingot(strict), 3, {"GGUF cannot say by which rules", "Without --strict this is a notice"});
  }
  expect_said(ingot({"convert", kBase, "--strict", "--force-copy", "--out", dir_ / "c.safetensors"}), 0, {"--strict changes nothing"});
  expect_said(ingot({"quantize", dir_ / "a.gguf", "--type", "Q8_0", "--strict", "--out", dir_ / "d.gguf"}), 0, {"--strict changes nothing"});
  expect_said(ingot({"lora", "merge", kBase, "--adapter", kLora, "--strict", "--out", dir_ / "e"}), 0, {"--strict changes nothing"});
}

TEST_F(Options, APreTokenizerOverOneThatIsKnownIsWarnedOf) {
  const Finished f = ingot({"convert", kBase, "--out", dir_ / "a.gguf", "--pre-tokenizer", "qwen2"});
  expect_said(f, 0, {"warning", "--pre-tokenizer qwen2 overrides llama-bpe"});
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"]["tokenizer.ggml.pre"], "qwen2");
  const Finished same = ingot({"convert", kBase, "--out", dir_ / "b.gguf", "--pre-tokenizer", "llama-bpe"});
  EXPECT_EQ(same.exit_code, 0);
  EXPECT_EQ(same.err, "");
}

TEST_F(Options, VerifyAndRankTimeoutAreOptionsOfEveryCommand) {
  const std::string help = ingot({"help", "options"}).out;
  for (const char* part : {"--verify HOW", "medium", "cache", "none", "--rank-timeout T", "10m"})
    EXPECT_NE(help.find(part), std::string::npos) << part;
  const auto with = [&](std::vector<std::string> options) {
    std::vector<std::string> words = {"quantize", kBase, "--type", "Q8_0", "--out", dir_ / "a.gguf", "--dry-run"};
    words.insert(words.end(), options.begin(), options.end());
    return ingot(words);
  };
  for (const char* how : {"medium", "cache", "none", "Medium"}) EXPECT_EQ(with({"--verify", how}).exit_code, 0) << how;
  expect_said(with({"--verify", "all"}), 2, {"--verify", "'all'", "medium, cache or none"});
  expect_said(with({"--verify", "medum"}), 2, {"did you mean medium?"});
  for (const char* time : {"30", "30s", "10m", "1h", "1.5h"}) EXPECT_EQ(with({"--rank-timeout", time}).exit_code, 0) << time;
  for (const char* time : {"", "m", "-5", "10 minutes", "1d", "1e9h", "nan"})
    expect_said(with({"--rank-timeout", time}), 2, {"--rank-timeout", "30s, 10m or 1h"});
  expect_said(with({"--rank-timeout", "0"}), 2, {"more than zero"});
}

TEST_F(Options, OnesThatChangeNothingAreWarnedOf) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"tokenize", kBase, "--text", "a", "--dry-run"}, {"inspect", kBase, "--force"}, {"verify", kBase, "--seed", "1"},
                                                {"list", "types", "--memory", "1G"}, {"run", kBase, "-p", "a", "-n", "1", "--verify", "none"}})
    expect_said(ingot(words), 0, {"warning: --", "changes nothing in 'ingot " + words[0] + "'"});
  expect_said(ingot({"ship", kBase, "--type", "Q8_0", "--out", dir_ / "a.gguf", "--dtype", "f16"}), 0, {"--dtype changes nothing", "merged"});
  expect_said(ingot({"convert", kBase, "--out", dir_ / "a.safetensors", "--force-copy", "--max-shard-size", "2MB"}), 0, {"--max-shard-size changes nothing"});
}

TEST_F(Options, APromptThatIsTooLongNamesItsTokensAndTheContext) {
  std::string longest;
  for (int i = 0; i < 3000; ++i) longest += "hello world ";
  write_file(dir_ / "prompt.txt", longest);
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.gguf"}).exit_code, 0);
  for (const std::string& model : {kBase, dir_ / "m.gguf"}) {
    const Finished f = ingot({"run", model, "--file", dir_ / "prompt.txt", "-n", "1"});
    expect_said(f, 2, {"--file", "prompt.txt", "9002 tokens, the context is 2048", "shorter"});
    EXPECT_EQ(f.out, "");
  }
  expect_said(ingot({"run", kBase, "--prompt", longest}), 2, {"--prompt: ", "9002 tokens, the context is 2048"});
}

// The example under another name, with members of its config.json set.
std::string with_config(const std::string& directory, const nlohmann::json& members) {
  std::filesystem::copy(kBase, directory);
  auto config = nlohmann::json::parse(read_file(directory + "/config.json"));
  config.update(members);
  write_file(directory + "/config.json", config.dump());
  return directory;
}

// Beyond the window the engine would attend to what the model does not see: it stops there instead.
TEST_F(Options, ASlidingWindowIsRunAndToldWhereOthersDoNot) {
  const std::string model = with_config(dir_ / "m", {{"architectures", {"MistralForCausalLM"}}, {"model_type", "mistral"}, {"sliding_window", 12}});
  const Finished f = ingot({"run", model, "-p", "def main(", "-n", "100"}), whole = ingot({"run", kBase, "-p", "def main(", "-n", "100"});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out, whole.out);
  // Within the window it is the same model.
  EXPECT_EQ(ingot({"run", model, "-p", "def main(", "-n", "8"}).out, ingot({"run", kBase, "-p", "def main(", "-n", "8"}).out);
  const Finished c = ingot({"convert", model, "--out", dir_ / "b.gguf"});
  expect_said(c, 0, {"config.json", "the last 12 tokens", "llama.cpp does not read"});
  EXPECT_EQ(ingot({"run", dir_ / "b.gguf", "-p", "def main(", "-n", "100"}).out, f.out);
}

TEST_F(Options, AConfigurationThatContradictsItselfIsBadInput) {
  const std::string model = with_config(dir_ / "m", {{"num_key_value_heads", 3}});
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"convert", model, "--out", dir_ / "a.gguf"}, {"quantize", model, "--type", "Q8_0", "--out", dir_ / "a.gguf"},
        {"quantize", model, "--type", "Q8_0", "--out", dir_ / "a.gguf", "--dry-run"}, {"run", model, "-p", "a"}})
    expect_said(ingot(words), 3, {"m/config.json", "'num_attention_heads' is 8 and 'num_key_value_heads' is 3"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {"m"}));
}

TEST_F(Options, TheCacheIsOfTheTypeThatIsAskedFor) {
  const std::string base = example("tiny-llama-base");
  const Finished plain = ingot({"run", base, "-p", "def main(", "-n", "12"});
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_EQ(ingot({"run", base, "-p", "def main(", "-n", "12", "--cache-type-k", "f32", "--cache-type-v", "F32"}).out, plain.out);
  for (const char* type : {"f16", "q8_0"}) {
    const Finished f = ingot({"run", base, "-p", "def main(", "-n", "12", "-ctk", type, "-ctv", type});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    EXPECT_FALSE(f.out.empty());
  }
  const Finished wrong = ingot({"run", base, "-p", "x", "-ctk", "q4_0"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_NE(wrong.err.find("--cache-type-k q4_0: the cache is of f32, f16 or q8_0"), std::string::npos) << wrong.err;
}

}  // namespace
}  // namespace ingot::testing
