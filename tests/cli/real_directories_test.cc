// Directories of models and adapters as people really have them, through the whole program.
#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

class RealDirectories : public CliTest {
 protected:
  std::string copy(const std::string& name) {
    const std::string to = dir_ / name;
    fs::copy(example(name), to);
    return to;
  }
  // The hash of the values, and so of the tensors alone.
  std::string text_of_tensors(const std::string& model) { return result_of(ingot({"hash", model, "--json"}))["exact"].get<std::string>(); }
  // `more` becomes the first members of a JSON file, behind a byte order mark.
  static void put_first(const std::string& path, const std::string& more) {
    const std::string text = read_file(path);
    write_file(path, "\xEF\xBB\xBF{" + more + "," + text.substr(text.find('{') + 1));
  }
};

TEST_F(RealDirectories, OddJsonThatNobodyReadsChangesNothing) {
  const std::string base = copy("tiny-llama-base"), adapter = copy("lora-code");
  write_file(base + "/special_tokens_map.json", "{\"x\": NaN}");
  write_file(base + "/added_tokens.json", "{\"<|eot_id|>\": 1e999, \"<|eot_id|>\": 4}");
  const std::string odd =
      "\"unread\": [1000000000000000019884624838656, 1e999, NaN, Infinity, -Infinity, \"\\ud800\"], \"\\udc00\": 1, \"unread\": 1e999";
  for (const char* name : {"config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"})
    put_first(base + "/" + name, odd + ", \"model_max_length\": NaN, \"model\": NaN, \"vocab_size\": NaN");
  write_file(base + "/tokenizer_config.json", [&] {
    std::string text = read_file(base + "/tokenizer_config.json");
    const auto at = text.find("2048");
    return text.replace(at, 4, "1000000000000000019884624838656");
  }());
  put_first(adapter + "/adapter_config.json", "\"lora_dropout\": 1e999, \"r\": NaN, \"revision\": NaN");

  const auto ship = [&](const std::string& b, const std::string& a, const std::string& out) {
    return ingot({"ship", b, "--adapter", a, "--type", "F16,Q4_K_M", "--out", dir_ / (out + "-{type}.gguf"), "--keep", "merged=" + (dir_ / (out + "-merged"))});
  };
  const Finished plain = ship(example("tiny-llama-base"), example("lora-code"), "plain"), f = ship(base, adapter, "odd");
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  ASSERT_EQ(f.exit_code, 0) << f.err;
  for (const char* type : {"F16", "Q4_K_M"})
    EXPECT_TRUE(same_bytes(dir_ / (std::string("odd-") + type + ".gguf"), dir_ / (std::string("plain-") + type + ".gguf"))) << type;
  EXPECT_TRUE(same_bytes(dir_ / "odd-merged/model.safetensors", dir_ / "plain-merged/model.safetensors"));
  // The new directory has what the old one had, and can be used like it.
  EXPECT_TRUE(same_bytes(dir_ / "odd-merged/tokenizer_config.json", base + "/tokenizer_config.json"));
  EXPECT_NE(read_file(dir_ / "odd-merged/config.json").find("\"unread\": 1e999"), std::string::npos);
  for (const std::string& model : {base, dir_ / "odd-merged", dir_ / "odd-F16.gguf"}) {
    const Finished run = ingot({"run", model, "--prompt", "def main(", "-n", "4", "--json"});
    EXPECT_EQ(run.exit_code, 0) << model << run.err;
    const Finished tokenize = ingot({"tokenize", model, "--text", "def main(", "--ids"});
    EXPECT_EQ(tokenize.out, ingot({"tokenize", example("tiny-llama-base"), "--text", "def main(", "--ids"}).out) << model << tokenize.err;
  }
  const Finished text = ingot({"inspect", base});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("1e999"), std::string::npos) << text.out;
  const auto j = result_of(ingot({"inspect", base, "--json"}));
  EXPECT_NE(j.dump().find("\"1e999\""), std::string::npos);
}

// What transformers makes of a pair that is tied by name only, every command makes of it; what doctor promises they do.
TEST_F(RealDirectories, AHeadThatDiffersFromItsTiedEmbeddingIsKeptByAll) {
  const std::string base = copy("tiny-llama-base");
  std::string config = read_file(base + "/config.json");
  config.replace(config.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
  write_file(base + "/config.json", config);
  const auto text = [&](const std::string& model) {
    const Finished f = ingot({"run", model, "--prompt", "def main(", "-n", "8"});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    return f.out;
  };
  EXPECT_EQ(text(base), text(example("tiny-llama-base")));
  for (const std::string& model : {base, example("tiny-llama-base")}) {
    const std::string out = dir_ / (model == base ? "tied" : "plain");
    const Finished f = ingot({"convert", model, "--type", "F16", "--out", out + ".gguf"});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    EXPECT_EQ(f.err.find("transformers does not tie them then") != std::string::npos, model == base) << f.err;
    EXPECT_EQ(ingot({"ship", model, "--type", "Q8_0", "--out", out + "-Q8_0.gguf"}).exit_code, 0);
    EXPECT_EQ(ingot({"lora", "merge", model, "--adapter", example("lora-code"), "--out", out + "-merged"}).exit_code, 0);
  }
  for (const char* file : {".gguf", "-Q8_0.gguf", "-merged/model.safetensors"})
    EXPECT_EQ(text_of_tensors(dir_ / (std::string("tied") + file)), text_of_tensors(dir_ / (std::string("plain") + file))) << file;
  const Finished doctor = ingot({"doctor", base});
  EXPECT_EQ(doctor.exit_code, 0);
  EXPECT_NE(doctor.out.find("57 tensors"), std::string::npos) << doctor.out;
}

TEST_F(RealDirectories, AConfigurationThatIsNoObjectIsSaidByAll) {
  const std::string base = copy("tiny-llama-base");
  for (const char* text : {"[]", "1", "\"x\""}) {
    write_file(base + "/config.json", text);
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"lora", "merge", base, "--adapter", example("lora-code"), "--out", dir_ / "m"}, {"convert", base, "--out", dir_ / "c"},
          {"ship", base, "--adapter", example("lora-code"), "--type", "F16", "--out", dir_ / "s.gguf"}, {"run", base, "--prompt", "x"}}) {
      const Finished f = ingot(words);
      EXPECT_EQ(f.exit_code, 3) << words[0];
      EXPECT_NE(f.err.find("config.json: it is"), std::string::npos) << f.err;
      EXPECT_NE(f.err.find("expected an object"), std::string::npos) << f.err;
    }
  }
}

TEST_F(RealDirectories, AnOddNumberThatIsReadIsRefusedBeforeTheFirstByte) {
  const std::string base = copy("tiny-llama-base");
  std::string config = read_file(base + "/config.json");
  config.replace(config.find("\"rms_norm_eps\": 1e-05"), 21, "\"rms_norm_eps\": NaN");
  write_file(base + "/config.json", config);
  const Finished f = ingot({"convert", base, "--type", "F16", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(f.exit_code, 3);
  EXPECT_NE(f.err.find("'rms_norm_eps' is NaN"), std::string::npos) << f.err;
  EXPECT_TRUE(empty_but_for(dir_.path(), {"tiny-llama-base"}));
}

}  // namespace
}  // namespace ingot::testing
