// The commands on the bundled model: what they write, and that they agree with each other byte for byte.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/sanitized.h"
#include "cli/text.h"
#include "program.h"

namespace ingot::testing {
namespace {

using Ship = CliTest;
using Commands = CliTest;

const std::string kBase = example("tiny-llama-base");
const std::string kLora = example("lora-code");

std::string shown(const Finished& f) { return "exit " + std::to_string(f.exit_code) + "\n" + f.out + f.err; }

TEST_F(Ship, F16GivesTheExpectedContinuations) {
  for (const bool adapter : {false, true}) {
    const auto expected = read_tsv(data_file(adapter ? "greedy-merged-code.tsv" : "greedy-base.tsv"));
    ASSERT_GT(expected.size(), 3u);
    std::vector<std::string> arguments = {"ship", kBase,   "--type",
                                          "F16",  "--out", dir_ / (adapter ? "a.gguf" : "b.gguf"),
                                          "-n",   "24",    "--json"};
    if (adapter) arguments.insert(arguments.end(), {"--adapter", kLora});
    for (const auto& [prompt, text] : expected) arguments.insert(arguments.end(), {"--test", prompt});
    const Finished f = ingot(arguments);
    ASSERT_EQ(f.exit_code, 0) << shown(f);
    const auto tests = result_of(f)["outputs"][0]["tests"];
    ASSERT_EQ(tests.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(tests[i]["prompt"], expected[i].first);
      EXPECT_EQ(tests[i]["text"], expected[i].second);
    }
  }
}

TEST_F(Ship, PrintsATableAndThePromptWithItsContinuation) {
  const Finished f = ingot({"ship", kBase, "--adapter", kLora, "--type", "F16,Q4_K_M", "--out",
                            dir_ / "m-{type}.gguf", "--test", "def main(", "-n", "24"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  EXPECT_NE(f.out.find("def main(test, path, path, path, path, path, path)"), std::string::npos) << f.out;
  for (const char* part : {"m-F16.gguf", "m-Q4_K_M.gguf", "16.0", "bits/weight", "read back from "})
    EXPECT_NE(f.out.find(part), std::string::npos) << part << "\n" << f.out;
  EXPECT_EQ(f.err, "");
  EXPECT_TRUE(empty_but_for(dir_.path(), {"m-F16.gguf", "m-Q4_K_M.gguf"}));
}

TEST_F(Ship, SeveralTypesFromOneReadAreTheFilesMadeAlone) {
  const Finished two = ingot({"ship", kBase, "--adapter", kLora, "--type", "Q8_0,Q4_K_M", "--out",
                              dir_ / "two-{type}.gguf", "--json"});
  ASSERT_EQ(two.exit_code, 0) << shown(two);
  const uint64_t weights = std::filesystem::file_size(kBase + "/model.safetensors");
  const uint64_t adapter = std::filesystem::file_size(kLora + "/adapter_model.safetensors");
  // Each source byte once (the headers are read when opening).
  EXPECT_LE(result_of(two)["source_bytes"].get<uint64_t>(), weights + adapter);
  for (const char* type : {"Q8_0", "Q4_K_M"}) {
    const std::string alone = dir_ / (std::string("one-") + type + ".gguf");
    ASSERT_EQ(ingot({"ship", kBase, "--adapter", kLora, "--type", type, "--out", alone}).exit_code, 0);
    EXPECT_TRUE(same_bytes(alone, dir_ / (std::string("two-") + type + ".gguf"))) << type;
  }
}

TEST_F(Ship, EqualsLoraMergeThenConvertThenQuantizeByteForByte) {
  const std::string merged = dir_ / "m";
  // general.name comes from the directory: the same last component for both.
  std::filesystem::create_directory(dir_ / "step");
  const std::string step = dir_ / "step/tiny-llama-base";
  for (const char* type : {"Q4_K_M", "Q8_0", "F16", "Q5_K_S", "Q6_K", "Q4_0"}) {
    const std::string shipped = dir_ / (std::string("ship-") + type + ".gguf"),
                      stepped = dir_ / (std::string("step-") + type + ".gguf");
    if (!exists(step)) {
      const Finished m = ingot({"lora", "merge", kBase, "--adapter", kLora, "--out", step, "--dtype", "f32"});
      ASSERT_EQ(m.exit_code, 0) << shown(m);
      EXPECT_NE(m.err.find("BF16"), std::string::npos) << "a notice that the type differs: " << m.err;
      const Finished c = ingot({"convert", step, "--out", dir_ / "f32.gguf"});
      ASSERT_EQ(c.exit_code, 0) << shown(c);
    }
    const Finished q = ingot({"quantize", dir_ / "f32.gguf", "--type", type, "--out", stepped});
    ASSERT_EQ(q.exit_code, 0) << shown(q);
    const Finished s = ingot({"ship", kBase, "--adapter", kLora, "--type", type, "--out", shipped});
    ASSERT_EQ(s.exit_code, 0) << shown(s);
    EXPECT_TRUE(same_bytes(shipped, stepped)) << type;
    // Straight from the directory too.
    const std::string direct = dir_ / (std::string("direct-") + type + ".gguf");
    ASSERT_EQ(ingot({"quantize", step, "--type", type, "--out", direct}).exit_code, 0);
    EXPECT_TRUE(same_bytes(shipped, direct)) << type;
  }
}

TEST_F(Ship, KeepWritesTheIntermediatesInTheSamePass) {
  const Finished f =
      ingot({"ship", kBase, "--adapter", kLora, "--type", "Q4_K_M", "--out", dir_ / "q.gguf", "--keep",
             "merged=" + (dir_ / "merged"), "--keep", "f16=" + (dir_ / "h.gguf"), "--json"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  EXPECT_EQ(result_of(f)["outputs"].size(), 3u);
  ASSERT_EQ(ingot({"lora", "merge", kBase, "--adapter", kLora, "--out", dir_ / "alone"}).exit_code, 0);
  EXPECT_EQ(entries(dir_ / "merged"), entries(dir_ / "alone"));
  for (const std::string& name : entries(dir_ / "alone"))
    EXPECT_TRUE(same_bytes(dir_ / ("merged/" + name), dir_ / ("alone/" + name))) << name;
  ASSERT_EQ(ingot({"ship", kBase, "--adapter", kLora, "--type", "F16", "--out", dir_ / "f16.gguf"}).exit_code,
            0);
  EXPECT_TRUE(same_bytes(dir_ / "h.gguf", dir_ / "f16.gguf"));
}

TEST_F(Ship, AdaptersApplyInOrderWithTheWeightAfterEach) {
  const auto make = [&](const std::string& name, std::vector<std::string> adapters) {
    std::vector<std::string> a = {"lora", "merge", kBase, "--out", dir_ / name, "--dtype", "f32"};
    a.insert(a.end(), adapters.begin(), adapters.end());
    const Finished f = ingot(a);
    EXPECT_EQ(f.exit_code, 0) << shown(f);
    return dir_ / (name + "/model.safetensors");
  };
  const std::string other = dir_ / "other";  // the same one twice is taken for a slip
  std::filesystem::copy(kLora, other);
  const std::string once = make("once", {"--adapter", kLora});
  EXPECT_TRUE(same_bytes(once, make("one", {"--adapter", kLora, "--weight", "1.0"})));
  EXPECT_FALSE(same_bytes(once, make("half", {"--adapter", kLora, "--weight", "0.5"})));
  EXPECT_FALSE(same_bytes(once, make("twice", {"--adapter", kLora, "--adapter", other})));
  // The second weight is the second adapter's.
  EXPECT_TRUE(
      same_bytes(make("a", {"--adapter", kLora, "--adapter", other, "--weight", "0"}),
                 make("b", {"--adapter", kLora, "--weight", "1", "--adapter", other, "--weight", "0"})));
}

TEST_F(Ship, ThreadsAndMemoryDoNotChangeTheBytes) {
  ASSERT_EQ(ingot({"ship", kBase, "--adapter", kLora, "--type", "Q4_K_M", "--out", dir_ / "a.gguf",
                   "--threads", "1"})
                .exit_code,
            0);
  const Finished f = ingot({"ship", kBase, "--adapter", kLora, "--type", "Q4_K_M", "--out", dir_ / "b.gguf",
                            "--threads", "7", "--memory", "16M"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / "b.gguf"));
}

TEST_F(Commands, ConvertKeepsTheFloatTypeAndRetypes) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "bf16.gguf"}).exit_code, 0);
  const auto j = result_of(ingot({"inspect", dir_ / "bf16.gguf", "--json"}));
  EXPECT_GT(j["types"]["BF16"]["tensors"], 40);
  EXPECT_EQ(j["metadata"]["general.architecture"], "llama");
  // GGUF to GGUF is the same as straight from the source.
  ASSERT_EQ(ingot({"convert", dir_ / "bf16.gguf", "--type", "F16", "--out", dir_ / "via.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", kBase, "--outtype", "f16", "--outfile", dir_ / "direct.gguf"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "via.gguf", dir_ / "direct.gguf"));
  // Hugging Face to Hugging Face, in shards, and back to one file.
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "shards", "--out-shard-size", "4MB"}).exit_code, 0);
  EXPECT_TRUE(exists(dir_ / "shards/model.safetensors.index.json"));
  ASSERT_EQ(ingot({"convert", dir_ / "shards", "--out", dir_ / "back"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "back/tokenizer.json", kBase + "/tokenizer.json"));
  const auto values = [&](const std::string& path) {
    return result_of(ingot({"inspect", path, "--tensor", "lm_head.weight", "--json"}))["rms"];
  };
  EXPECT_EQ(values(dir_ / "back"), values(kBase));
}

TEST_F(Commands, QuantizeTakesLlamaQuantizesOptions) {
  const auto types = [&](std::vector<std::string> options) {
    std::vector<std::string> a = {"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "q.gguf", "--force"};
    a.insert(a.end(), options.begin(), options.end());
    const Finished f = ingot(a);
    EXPECT_EQ(f.exit_code, 0) << shown(f);
    std::map<std::string, std::string> m;
    const auto j = result_of(ingot({"inspect", dir_ / "q.gguf", "--json"}));
    for (const auto& t : j["tensors"]) m[t["name"]] = t["type"];
    return m;
  };
  auto t = types({});
  EXPECT_EQ(t["output.weight"], "Q6_K");
  EXPECT_EQ(t["token_embd.weight"], "Q4_K");
  EXPECT_EQ(t["output_norm.weight"], "F32");
  t = types({"--pure"});
  EXPECT_EQ(t["blk.0.attn_v.weight"], "Q4_K");
  t = types({"--leave-output-tensor"});
  EXPECT_EQ(t["output.weight"], "BF16");
  t = types({"--output-tensor-type", "q8_0", "--token-embedding-type", "F16", "--tensor-type",
             "attn_[qk]=Q5_K", "--tensor-type", "ffn_up=Q6_K"});
  EXPECT_EQ(t["output.weight"], "Q8_0");
  EXPECT_EQ(t["token_embd.weight"], "F16");
  EXPECT_EQ(t["blk.3.attn_q.weight"], "Q5_K");
  EXPECT_EQ(t["blk.3.ffn_up.weight"], "Q6_K");
  // From quantized weights only when asked.
  const Finished f = ingot({"quantize", dir_ / "q.gguf", "--type", "Q4_0", "--out", dir_ / "r.gguf"});
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_NE(f.err.find("--allow-requantize"), std::string::npos) << f.err;
  EXPECT_EQ(
      ingot({"quantize", dir_ / "q.gguf", "--type", "Q4_0", "--out", dir_ / "r.gguf", "--allow-requantize"})
          .exit_code,
      0);
}

TEST_F(Commands, RunStreamsTheContinuation) {
  const auto expected = read_tsv(data_file("greedy-merged-code.tsv"));
  ASSERT_FALSE(expected.empty());
  const auto& [prompt, text] = expected[0];
  // Adapters folded in memory, straight from the directory.
  Finished f = ingot({"run", kBase, "--adapter", kLora, "--prompt", prompt, "-n", "24"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  EXPECT_EQ(f.out, text + "\n");
  EXPECT_EQ(f.err, "");
  f = ingot({"run", kBase, "--adapter", kLora, "--prompt", prompt, "-n", "24", "-v"});
  EXPECT_NE(f.err.find("tokens/s"), std::string::npos) << f.err;
  // Ends before a stop string.
  f = ingot({"run", kBase, "--adapter", kLora, "-p", prompt, "-n", "24", "--stop", "path,"});
  EXPECT_EQ(f.out, text.substr(0, text.find("path,")) + "\n");
  // JSON: the same text in one object, and in events.
  f = ingot({"run", kBase, "--adapter", kLora, "-p", prompt, "-n", "24", "--json"});
  const auto j = result_of(f);
  EXPECT_EQ(j["text"], text);
  EXPECT_EQ(j["tokens"], 24);
  EXPECT_EQ(j["stop"], "length");
  std::string streamed;
  for (const auto& e : events_of(f.err))
    if (e["event"] == "text") streamed += e["text"].get<std::string>();
  EXPECT_EQ(streamed, text);
}

TEST_F(Commands, SamplingIsAFunctionOfTheSeed) {
  const auto run = [&](const char* seed) {
    return ingot({"run", kBase, "-p", "The", "-n", "16", "--temperature", "1.5", "--random-seed", seed}).out;
  };
  EXPECT_EQ(run("7"), run("7"));
  EXPECT_NE(run("7"), run("8"));
}

TEST_F(Commands, TokenizeAgreesBetweenTheDirectoryAndItsGguf) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.gguf"}).exit_code, 0);
  const std::string text = "def f(x):\n    return x + 1  # naïve 日本 🙂\n";
  const Finished hf = ingot({"tokenize", kBase, "--text", text});
  ASSERT_EQ(hf.exit_code, 0) << shown(hf);
  EXPECT_EQ(ingot({"tokenize", dir_ / "m.gguf", "--text", text}).out, hf.out);
  EXPECT_EQ(hf.out.substr(0, 2), "0 ");  // BOS
  EXPECT_EQ("0 " + ingot({"tokenize", kBase, "--text", text, "--no-special"}).out, hf.out);
  // And back.
  EXPECT_EQ(ingot({"tokenize", kBase, "--text", hf.out, "--decode", "--no-special"}).out, text);
  write_file(dir_ / "t.txt", text);
  EXPECT_EQ(ingot({"tokenize", kBase, "--file", dir_ / "t.txt"}).out, hf.out);
  const Finished pieces = ingot({"tokenize", kBase, "--text", "def f", "--pieces", "--no-special"});
  EXPECT_NE(pieces.out.find("\tdef\n"), std::string::npos) << pieces.out;
  EXPECT_EQ(ingot({"tokenize", kBase, "--text", "999999", "--decode"}).exit_code, 3);
}

TEST_F(Commands, InspectTellsTensorsTypesMetadataAndTokenizer) {
  const auto hf = result_of(ingot({"inspect", kBase, "--json"}));
  EXPECT_EQ(hf["format"], "safetensors");
  EXPECT_EQ(hf["config"]["hidden_size"], 256);
  EXPECT_EQ(hf["tokenizer"]["tokens"], 4096);
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q4_K_M", "--out", dir_ / "q.gguf"}).exit_code, 0);
  const Finished f = ingot({"inspect", dir_ / "q.gguf"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  for (const char* part :
       {"Q4_K", "Q6_K", "general.architecture", "llama", "ffn_down.weight", "tokenizer", "4,096"})
    EXPECT_NE(f.out.find(part), std::string::npos) << part;
  const auto q = result_of(ingot({"inspect", dir_ / "q.gguf", "--json"}));
  EXPECT_EQ(q["bytes"].get<uint64_t>(), std::filesystem::file_size(dir_ / "q.gguf"));
  EXPECT_EQ(q["totals"]["values"], hf["totals"]["values"]);
  const auto adapter = result_of(ingot({"inspect", kLora, "--json"}));
  EXPECT_EQ(adapter["format"], "peft");
  EXPECT_EQ(adapter["adapter_config"]["r"], 16);
  const auto t = result_of(ingot({"inspect", kBase, "--tensor", "model.norm.weight", "--json"}));
  EXPECT_EQ(t["shape"], nlohmann::json({256}));
  EXPECT_EQ(t["nan"], 0);
  EXPECT_GT(t["rms"], 0.0);
}

TEST_F(Commands, InspectReadsHeadersOnly) {
  // 4 TB of weights that are not there, a sparse file: reading them would take minutes, and the run be killed for it.
  std::filesystem::create_directory(dir_ / "big");
  const uint64_t rows = 1ull << 31, columns = 1024;
  std::string header = R"({"w":{"dtype":"BF16","shape":[)" + std::to_string(rows) + "," +
                       std::to_string(columns) + R"(],"data_offsets":[0,)" +
                       std::to_string(rows * columns * 2) + "]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string bytes(8, '\0');
  const uint64_t n = header.size();
  std::memcpy(bytes.data(), &n, 8);
  write_file(dir_ / "big/model.safetensors", bytes + header);
  std::filesystem::resize_file(dir_ / "big/model.safetensors", 8 + n + rows * columns * 2);
  const Finished f = ingot({"inspect", dir_ / "big/model.safetensors"});
  EXPECT_EQ(f.exit_code, 0) << shown(f);
  EXPECT_LT(f.peak_rss_kib, (kSanitized ? 300 : 100) << 10);
}

}  // namespace
}  // namespace ingot::testing
