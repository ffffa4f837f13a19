// tokenizer.model and tekken.json alone are enough for every command (the files are those of tests/data/make/token_models.py).
#include <filesystem>
#include <sstream>

#include "program.h"
#include "tokenizer/base64.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

class TokenModelsCli : public CliTest {
 protected:
  // The bundled model with the tokenizer of that case.
  std::string model_with(const std::string& name, nlohmann::json* all) {
    std::istringstream lines(read_file(data_file("token_models.jsonl")));
    std::string line;
    std::getline(lines, line);
    texts_ = nlohmann::json::parse(line)["texts"].get<std::vector<std::string>>();
    while (std::getline(lines, line) && (*all = nlohmann::json::parse(line))["name"] != name) {}
    EXPECT_EQ((*all)["name"], name);
    const std::string to = dir_ / "model";
    fs::copy(example("tiny-llama-base"), to);
    fs::remove(to + "/tokenizer.json");
    fs::remove(to + "/tokenizer_config.json");
    for (const auto& [file, text] : (*all)["files"].items())
      if (file != "config.json") write_file(to + "/" + file, file == "tokenizer.model" ? *from_base64(text.get<std::string>()) : text.get<std::string>());
    return to;
  }
  static nlohmann::json ids(const std::string& model, const std::string& text) {
    return result_of(ingot({"tokenize", model, "--no-special", "--json", "--text", text}))["ids"];
  }
  std::vector<std::string> texts_;
};

TEST_F(TokenModelsCli, SentencePieceAloneIsEnough) {
  nlohmann::json expected;
  const std::string model = model_with("model: Llama", &expected);
  for (const size_t i : {0, 6, 8, 10}) EXPECT_EQ(ids(model, texts_[i]), expected["ids"][i]) << texts_[i];
  EXPECT_EQ(result_of(ingot({"inspect", model, "--json"}))["tokenizer"]["model"], "llama");  // as the GGUF would have it
  EXPECT_EQ(ingot({"doctor", model}).exit_code, 0);
  const Finished ship = ingot({"ship", model, "--adapter", example("lora-code"), "--type", "Q8_0", "--out", dir_ / "a.gguf", "--test", "def", "-n", "4"});
  ASSERT_EQ(ship.exit_code, 0) << ship.err;
  for (const size_t i : {0, 6, 8, 10}) EXPECT_EQ(ids(dir_ / "a.gguf", texts_[i]), expected["ids"][i]) << texts_[i];
  const auto metadata = result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"];
  EXPECT_EQ(metadata["tokenizer.ggml.model"], "llama");
  EXPECT_EQ(metadata["tokenizer.ggml.pre"], "default");
  EXPECT_EQ(metadata["tokenizer.ggml.scores"]["count"], 4096);
  EXPECT_EQ(metadata["tokenizer.ggml.add_bos_token"], true);
  EXPECT_EQ(metadata["tokenizer.ggml.add_space_prefix"], true);
  EXPECT_EQ(ingot({"run", dir_ / "a.gguf", "--prompt", "def", "-n", "4"}).exit_code, 0);
}

TEST_F(TokenModelsCli, WhetherBosIsAddedIsLeftToLlamaCppWhereNoFileSaysItAndThatIsTold) {
  nlohmann::json expected;
  const std::string model = model_with("model: alone", &expected);
  const auto first = [](const std::string& path) { return result_of(ingot({"tokenize", path, "--json", "--text", "a"}))["ids"][0]; };
  const Finished told = ingot({"convert", model, "--type", "F16", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  const size_t at = told.err.find("\"add_bos_token\": true or false in tokenizer_config.json");
  EXPECT_NE(at, std::string::npos) << told.err;
  EXPECT_EQ(told.err.find("add_bos_token", at + 2), std::string::npos) << told.err;  // once
  EXPECT_EQ(told.err.find("add_eos_token"), std::string::npos) << told.err;
  EXPECT_FALSE(result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"].contains("tokenizer.ggml.add_bos_token"));
  EXPECT_EQ(first(dir_ / "a.gguf"), 1);  // as llama.cpp does
  EXPECT_NE(first(model), 1);
  write_file(model + "/tokenizer_config.json", R"({"add_bos_token": false})");
  const Finished said = ingot({"convert", model, "--type", "F16", "--out", dir_ / "b.gguf"});
  ASSERT_EQ(said.exit_code, 0) << said.err;
  EXPECT_EQ(said.err.find("add_bos_token"), std::string::npos) << said.err;
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "b.gguf", "--json"}))["metadata"]["tokenizer.ggml.add_bos_token"], false);
  EXPECT_EQ(first(dir_ / "b.gguf"), first(model));
}

TEST_F(TokenModelsCli, TekkenAloneIsEnough) {
  nlohmann::json expected;
  const std::string model = model_with("tekken", &expected);
  for (const size_t i : {0, 6, 8, 10}) EXPECT_EQ(ids(model, texts_[i]), expected["ids"][i]) << texts_[i];
  const Finished convert = ingot({"convert", model, "--type", "F16", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(convert.exit_code, 0) << convert.err;
  for (const size_t i : {0, 6, 8, 10}) EXPECT_EQ(ids(dir_ / "a.gguf", texts_[i]), expected["ids"][i]) << texts_[i];
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"]["tokenizer.ggml.pre"], "tekken");
}

TEST_F(TokenModelsCli, ATruncatedSentencePieceFileIsRefusedByEveryCommand) {
  nlohmann::json expected;
  const std::string model = model_with("model: Llama", &expected);
  const std::string whole = read_file(model + "/tokenizer.model");
  write_file(model + "/tokenizer.model", whole.substr(0, whole.size() / 2));
  for (const auto& command : std::vector<std::vector<std::string>>{{"tokenize", model, "--text", "x"}, {"convert", model, "--type", "F16", "--out", dir_ / "a.gguf"}}) {
    const Finished f = ingot(command);
    EXPECT_EQ(f.exit_code, 3) << f.err;
    EXPECT_NE(f.err.find("tokenizer.model"), std::string::npos) << f.err;
    EXPECT_NE(f.err.find("truncated or damaged"), std::string::npos) << f.err;
  }
  EXPECT_FALSE(exists(dir_ / "a.gguf"));
}

// What GPT-2's and Qwen's tokenizers were before tokenizer.json.
TEST_F(TokenModelsCli, VocabJsonAndMergesAreEnough) {
  const std::string model = dir_ / "model";
  fs::copy(example("tiny-llama-base"), model);
  const auto tokenizer = nlohmann::json::parse(read_file(model + "/tokenizer.json"))["model"];
  fs::remove(model + "/tokenizer.json");
  std::string merges = "#version: 0.2\n";
  for (const auto& m : tokenizer["merges"]) merges += m.is_string() ? m.get<std::string>() + "\n" : m[0].get<std::string>() + " " + m[1].get<std::string>() + "\n";
  write_file(model + "/vocab.json", tokenizer["vocab"].dump());
  write_file(model + "/merges.txt", merges);
  write_file(model + "/tokenizer_config.json", R"({"tokenizer_class": "BartTokenizer"})");
  const Finished unknown = ingot({"tokenize", model, "--text", "x"});
  EXPECT_EQ(unknown.exit_code, 3);
  EXPECT_NE(unknown.err.find("found vocab.json and merges.txt"), std::string::npos) << unknown.err;
  write_file(model + "/tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
  const Finished ship = ingot({"ship", model, "--adapter", example("lora-code"), "--type", "Q8_0", "--out", dir_ / "a.gguf", "--test", "def", "-n", "4"});
  ASSERT_EQ(ship.exit_code, 0) << ship.err;
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"]["tokenizer.ggml.pre"], "gpt-2");
  const std::string text = "def main(x): return 10 ** 30";
  EXPECT_EQ(ids(model, text), ids(dir_ / "a.gguf", text));
  EXPECT_EQ(ids(example("tiny-llama-base"), "def main"), ids(model, "def main"));
  EXPECT_EQ(ingot({"doctor", model}).exit_code, 0);
}

TEST_F(TokenModelsCli, TokenizeNeedsNoWeights) {
  nlohmann::json expected;
  const std::string whole = model_with("model: Llama", &expected), base = example("tiny-llama-base");
  const std::string bare = dir_ / "bare";
  fs::create_directory(bare);
  write_file(bare + "/tokenizer.model", read_file(whole + "/tokenizer.model"));
  write_file(bare + "/tokenizer_config.json", fs::exists(whole + "/tokenizer_config.json") ? read_file(whole + "/tokenizer_config.json") : "{}");
  EXPECT_EQ(ids(bare, texts_[6]), expected["ids"][6]);
  EXPECT_EQ(ids(bare + "/tokenizer.model", texts_[6]), expected["ids"][6]);
  // The file that is named counts before another beside it, and those that go with any of them count, too.
  fs::copy(base + "/tokenizer.json", bare);
  EXPECT_EQ(ids(bare + "/tokenizer.model", texts_[6]), expected["ids"][6]);
  EXPECT_EQ(ids(bare + "/tokenizer.json", "def main"), ids(base, "def main"));
  EXPECT_EQ(ids(bare, "def main"), ids(base, "def main"));
  write_file(bare + "/added_tokens.json", R"({"<new>": 4096})");
  fs::remove(bare + "/tokenizer_config.json");
  EXPECT_EQ(ids(bare + "/tokenizer.json", "<new>"), nlohmann::json::array({4096}));
  // Without any of them the error is that of a directory without a model.
  const std::string empty = dir_ / "empty";
  fs::create_directory(empty);
  EXPECT_EQ(ingot({"tokenize", empty, "--text", "x"}).exit_code, 3);
  write_file(empty + "/tokenizer.model", "");
  for (const std::string& path : {empty, empty + "/tokenizer.model"}) {
    const Finished f = ingot({"tokenize", path, "--text", "x"});
    EXPECT_EQ(f.exit_code, 3);
    EXPECT_NE(f.err.find("empty"), std::string::npos) << f.err;
  }
}

}  // namespace
}  // namespace ingot::testing
