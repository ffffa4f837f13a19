// Options of llama-quantize that change what model is written: layers left out, keys of the metadata, the files of the source.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <set>

#include "program.h"

namespace ingot::testing {
namespace {

using nlohmann::json;

class QuantizeOptions : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    ASSERT_EQ(ingot({"convert", example("tiny-llama-base"), f16_, "--type", "F16"}).exit_code, 0);
  }
  Finished quantize(const std::string& in, const std::string& out, std::vector<std::string> more) const {
    std::vector<std::string> words = {"quantize", in, dir_ / out, "Q5_K_M"};
    words.insert(words.end(), more.begin(), more.end());
    return ingot(words);
  }
  json inspect(const std::string& file) const { return result_of(ingot({"inspect", dir_ / file, "--json"})); }
  const std::string f16_ = dir_ / "f16.gguf";
};

TEST_F(QuantizeOptions, LayersAreLeftOut) {
  const Finished f = quantize(f16_, "p.gguf", {"--prune-layers", "1,3-4", "--imatrix", data_file("quant/imatrix.gguf")});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(f.err.find("importance"), std::string::npos) << f.err;  // its entries went with their layers
  EXPECT_EQ(inspect("p.gguf")["metadata"]["llama.block_count"], 3);
  EXPECT_EQ(ingot({"verify", dir_ / "p.gguf"}).exit_code, 0);
  EXPECT_EQ(ingot({"run", dir_ / "p.gguf", "--prompt", "The", "-n", "4"}).exit_code, 0);
  for (const char* wrong : {"6", "a", "1,", "3-1", "", "0-5"}) {
    const Finished w = quantize(f16_, "w.gguf", {"--prune-layers", wrong});
    EXPECT_EQ(w.exit_code, 2) << wrong << w.err;
    EXPECT_FALSE(std::filesystem::exists(dir_ / "w.gguf"));
  }
}

TEST_F(QuantizeOptions, KeysAreSet) {
  const Finished f = quantize(f16_, "o.gguf", {"--override-kv", "general.name=str:str:b=c", "--override-kv", "llama.rope.freq_base=float:20000", "--override-kv", "general.file_type=int:1", "--override-kv",
                                               "own.small=int:-3", "--override-kv", "tokenizer.ggml.add_space_prefix=bool:true"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const json m = inspect("o.gguf")["metadata"];
  EXPECT_EQ(m["general.name"], "str:b=c");  // nothing in the value is taken for a type
  EXPECT_EQ(m["llama.rope.freq_base"], 20000.0);
  EXPECT_EQ(m["general.file_type"], 1);  // over what quantizing says
  EXPECT_EQ(m["own.small"], -3);
  EXPECT_EQ(m["tokenizer.ggml.add_space_prefix"], true);
  const std::pair<const char*, const char*> kWrong[] = {{"a", "KEY=TYPE:VALUE"},          {"a=i32:5", "KEY=TYPE:VALUE"},        {"=int:5", "KEY=TYPE:VALUE"}, {"general.name=int:3", "the key is str"},
                                                        {"own.x=int:1.5", "no int"},      {"own.x=bool:maybe", "no bool"},      {"own.x=float:many", "no float"}, {"llama.block_count=int:99999999999", "type holds"},
                                                        {"tokenizer.ggml.tokens=str:x", "a list"}, {"split.no=int:1", "of the files"},
                                                        {"general.alignment=int:64", "of the files"}, {"llama.block_count=int:u64:6", "no int"}, {"own.x=int:u8:5", "no int"}};
  for (const auto& [word, part] : kWrong) {
    const Finished w = quantize(f16_, "w.gguf", {"--override-kv", word});
    EXPECT_EQ(w.exit_code, 2) << word << w.err;
    EXPECT_NE(w.err.find(part), std::string::npos) << word << w.err;
  }
  const Finished contradiction = quantize(f16_, "c.gguf", {"--override-kv", "llama.block_count=int:9"});
  EXPECT_EQ(contradiction.exit_code, 0);
  EXPECT_NE(contradiction.err.find("contradicts itself: llama.block_count says 9"), std::string::npos) << contradiction.err;
}

TEST_F(QuantizeOptions, EffortIsOfThree) {
  std::map<std::string, std::string> bytes;
  for (const char* effort : {"fast", "normal", "best"}) {
    ASSERT_EQ(quantize(f16_, std::string(effort) + ".gguf", {"--effort", effort}).exit_code, 0);
    bytes[effort] = read_file(dir_ / (std::string(effort) + ".gguf"));
  }
  EXPECT_NE(bytes["fast"], bytes["normal"]);
  EXPECT_NE(bytes["best"], bytes["normal"]);
  EXPECT_EQ(bytes["best"].size(), bytes["normal"].size());
  // Another effort over the same name is another job, not one that is up to date.
  ASSERT_EQ(quantize(f16_, "fast.gguf", {"--effort", "best", "--force"}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "fast.gguf"), bytes["best"]);
  ASSERT_EQ(quantize(f16_, "plain.gguf", {}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "plain.gguf"), bytes["normal"]);
  const Finished w = quantize(f16_, "w.gguf", {"--effort", "most"});
  EXPECT_EQ(w.exit_code, 2);
  EXPECT_NE(w.err.find("fast, normal or best"), std::string::npos) << w.err;
}

// NVFP4 has scales beside its weights that the source has not.
TEST_F(QuantizeOptions, ThePlanHasTensorsThatTheSourceHasNot) {
  const std::vector<std::string> words = {"quantize", f16_, dir_ / "n.gguf", "NVFP4"};
  auto dry = words;
  dry.insert(dry.end(), {"--dry-run", "--json"});
  const json plan = result_of(ingot(dry));
  ASSERT_EQ(ingot(words).exit_code, 0);
  const json made = inspect("n.gguf");
  ASSERT_EQ(plan["types"][0]["tensors"].size(), made["tensors"].size());
  size_t scales = 0;
  for (size_t i = 0; i < made["tensors"].size(); ++i) {
    const json& t = plan["types"][0]["tensors"][i];
    EXPECT_EQ(t["name"], made["tensors"][i]["name"]);
    EXPECT_EQ(t["type"], made["tensors"][i]["type"]);
    scales += !t.contains("from");
  }
  EXPECT_EQ(scales, 42u);
}

// What is planned is what is written: sizes and types of every tensor, here and in the list of types.
TEST_F(QuantizeOptions, ThePlanIsWhatIsWritten) {
  const json plan = result_of(quantize(f16_, "p.gguf", {"--dry-run", "--json"}));
  ASSERT_EQ(plan["types"].size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "p.gguf"));
  const Finished text = quantize(f16_, "p.gguf", {"--dry-run"});
  EXPECT_NE(text.out.find("blk.*.ffn_down.weight"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find(" of computing with "), std::string::npos) << text.out;
  EXPECT_GT(plan["types"][0]["compute_seconds"].get<double>(), 0);
  ASSERT_EQ(quantize(f16_, "p.gguf", {}).exit_code, 0);
  const json made = inspect("p.gguf");
  std::map<std::string, std::string> types;
  for (const auto& t : made["tensors"]) types[t["name"]] = t["type"];
  ASSERT_EQ(plan["types"][0]["tensors"].size(), types.size());
  for (const auto& t : plan["types"][0]["tensors"]) EXPECT_EQ(t["type"], types[t["name"]]) << t;
  const json list = result_of(ingot({"list", "types", "--for", f16_, "--json"}));
  for (const auto& t : list["types"]) {
    if (t["name"] == "Q5_K_M") {
      EXPECT_EQ(t["bytes"], std::filesystem::file_size(dir_ / "p.gguf"));
      EXPECT_FALSE(t["needs_imatrix"]);
    }
    if (t["name"] == "IQ2_XXS") {
      EXPECT_TRUE(t["needs_imatrix"]);
    }
  }
  EXPECT_EQ(ingot({"list", "formats", "--for", f16_}).exit_code, 2);
}

// A tensor lies in the file of the same number as before, and the set is the same model as one file.
TEST_F(QuantizeOptions, TheSplitStays) {
  ASSERT_EQ(ingot({"gguf", "split", f16_, dir_ / "in", "--split-max-tensors", "20"}).exit_code, 0);
  const auto name = [](const char* prefix, int i, int n) { return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, n); };
  const auto names = [&](const std::string& file) {
    std::set<std::string> all;
    for (const auto& t : inspect(file)["tensors"]) all.insert(t["name"]);
    return all;
  };
  const int n = static_cast<int>(std::distance(std::filesystem::directory_iterator(dir_.path()), {})) - 1;
  ASSERT_GT(n, 2);
  const Finished f = quantize(dir_ / name("in", 1, n), "out.gguf", {"--keep-split"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  for (int i = 2; i <= n; ++i) EXPECT_EQ(std::filesystem::exists(dir_ / name("out", i, n)), true) << i;
  ASSERT_EQ(quantize(f16_, "one.gguf", {}).exit_code, 0);
  ASSERT_EQ(ingot({"gguf", "merge", dir_ / name("out", 1, n), dir_ / "merged.gguf"}).exit_code, 0);
  EXPECT_EQ(names("merged.gguf"), names("one.gguf"));
  EXPECT_EQ(ingot({"diff", dir_ / "merged.gguf", dir_ / "one.gguf", "--exit-code"}).exit_code, 0);
  // One file is one file, and two rules for the files exclude each other.
  ASSERT_EQ(quantize(f16_, "same.gguf", {"--keep-split"}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "same.gguf"), read_file(dir_ / "one.gguf"));
  EXPECT_EQ(quantize(f16_, "w.gguf", {"--keep-split", "--max-shard-size", "1M"}).exit_code, 2);
}

// ship: what is kept beside is changed as well, or it is told that it cannot be; tensors of the source's files in turn make no difference.
TEST_F(QuantizeOptions, InShip) {
  const std::string base = example("tiny-llama-base"), adapter = example("lora-code");
  const auto ship = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"ship", base, "--adapter", adapter, "--type", "Q8_0", "--out", dir_ / "s.gguf", "--force"};
    words.insert(words.end(), more.begin(), more.end());
    return ingot(words);
  };
  ASSERT_EQ(ship({"--keep", "f16=" + (dir_ / "k.gguf"), "--override-kv", "general.file_type=int:9", "--prune-layers", "2"}).exit_code, 0);
  EXPECT_EQ(inspect("k.gguf")["metadata"]["general.file_type"], 9);
  EXPECT_EQ(inspect("k.gguf")["metadata"]["llama.block_count"], 5);
  // Tensors of a directory's files come in another order than a GGUF has them, and the files are compared with what was to be written all the same.
  ASSERT_EQ(ingot({"lora", "merge", base, adapter, dir_ / "hf", "--max-shard-size", "4M"}).exit_code, 0);
  const Finished split = ingot({"ship", dir_ / "hf", "--type", "Q8_0", "--out", dir_ / "split.gguf", "--keep-split", "--test", "The", "-n", "2"});
  EXPECT_EQ(split.exit_code, 0) << split.err;
  EXPECT_FALSE(std::filesystem::exists(dir_ / "split.gguf"));
  EXPECT_EQ(ship({"--keep", "merged=" + (dir_ / "m"), "--prune-layers", "2"}).exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "m"));
}

}  // namespace
}  // namespace ingot::testing
