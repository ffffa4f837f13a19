// A directory's tokenizer is several files: what they say reaches the GGUF, the new directory and the end of a text.
#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

class TokenizerFilesCli : public CliTest {
 protected:
  std::string base() {
    const std::string to = dir_ / "base";
    fs::copy(example("tiny-llama-base"), to);
    return to;
  }
  static void put_first(const std::string& path, const std::string& more) {
    const std::string text = read_file(path);
    write_file(path, "{" + more + "," + text.substr(text.find('{') + 1));
  }
};

TEST_F(TokenizerFilesCli, NamedTemplatesReachTheGgufAndANewDirectory) {
  const std::string from = base();
  fs::create_directory(from + "/additional_chat_templates");
  write_file(from + "/additional_chat_templates/tool-use.jinja", "T");
  const Finished merge = ingot({"lora", "merge", from, "--adapter", example("lora-code"), "--out", dir_ / "merged"});
  ASSERT_EQ(merge.exit_code, 0) << merge.err;
  EXPECT_TRUE(same_bytes(dir_ / "merged/additional_chat_templates/tool-use.jinja", from + "/additional_chat_templates/tool-use.jinja"));
  const Finished again = ingot({"lora", "merge", from, "--adapter", example("lora-code"), "--out", dir_ / "merged", "--force"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  const Finished convert = ingot({"convert", dir_ / "merged", "--type", "F16", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(convert.exit_code, 0) << convert.err;
  const auto metadata = result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"];
  EXPECT_EQ(metadata["tokenizer.chat_template.tool_use"], "T");
  EXPECT_TRUE(metadata.contains("tokenizer.chat_templates"));
}

TEST_F(TokenizerFilesCli, AnIdThatIsNotTheFilesIsToldByConvertAndTokenize) {
  const std::string from = base();
  put_first(from + "/tokenizer_config.json", R"("added_tokens_decoder": {"7": {"content": " the"}, "9": {"content": "<x>", "special": true}})");
  const Finished convert = ingot({"convert", from, "--type", "F16", "--out", dir_ / "a.gguf"});
  EXPECT_EQ(convert.exit_code, 0) << convert.err;
  EXPECT_NE(convert.err.find("gives the token \" the\" the id 7, but it is"), std::string::npos) << convert.err;
  EXPECT_NE(convert.err.find("left out"), std::string::npos) << convert.err;
  const Finished tokenize = ingot({"tokenize", from, "--text", "x", "--ids"});
  EXPECT_EQ(tokenize.exit_code, 0) << tokenize.err;
  EXPECT_NE(tokenize.err.find("gives the token \" the\" the id 7, but it is"), std::string::npos) << tokenize.err;
}

TEST_F(TokenizerFilesCli, RunStopsAtEveryEosOfTheFiles) {
  const std::string from = base();
  const auto text = [&](const std::string& model) { return result_of(ingot({"run", model, "--prompt", "def main(", "-n", "8", "--json"})); };
  const auto before = text(from);
  ASSERT_EQ(before["stop"], "length");
  const std::string third = before["ids"][2].dump();
  const auto stops = [&](const std::string& model) {
    const auto j = text(model);
    EXPECT_EQ(j["stop"], "end_of_text") << model;
    EXPECT_LE(j["tokens"], 3) << model;
  };
  write_file(from + "/generation_config.json", "{\"eos_token_id\": [1, " + third + "]}");
  stops(from);
  const Finished convert = ingot({"convert", from, "--type", "F32", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(convert.exit_code, 0) << convert.err;
  stops(dir_ / "a.gguf");
}

// The embedding was not resized for the new tokens: what is left out is named, and what ends a text is what has a row.
TEST_F(TokenizerFilesCli, ATokenWithoutARowIsLeftOutByNameAndAnotherTakesItsRole) {
  const std::string from = base();
  std::string tokenizer = read_file(from + "/tokenizer.json");
  const std::string list = "\"added_tokens\": [";
  ASSERT_NE(tokenizer.find(list), std::string::npos);
  tokenizer.insert(tokenizer.find(list) + list.size(),
                   R"({"id": 4096, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},)");
  write_file(from + "/tokenizer.json", tokenizer);
  write_file(from + "/tokenizer_config.json", R"({"eos_token": "<|im_end|>"})");
  const Finished convert = ingot({"convert", from, "--type", "F16", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(convert.exit_code, 0) << convert.err;
  EXPECT_NE(convert.err.find("has none for \"<|im_end|>\" (4096): left out"), std::string::npos) << convert.err;
  EXPECT_NE(convert.err.find("(1) takes its place"), std::string::npos) << convert.err;
  EXPECT_EQ(result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"]["tokenizer.ggml.eos_token_id"], 1);
  for (const char* command : {"inspect", "doctor"}) {
    const auto j = result_of(ingot({command, from, "--json"}));
    EXPECT_NE(j["odd"].dump().find("4096), which has no row"), std::string::npos) << j["odd"];
    EXPECT_EQ(j["tokenizer"]["end"].dump().find("4096"), std::string::npos) << j["tokenizer"];
  }
}

TEST_F(TokenizerFilesCli, WithoutMergesTheFileHasAnEmptyList) {
  const std::string from = base();
  std::string tokenizer = read_file(from + "/tokenizer.json");
  const std::string key = "\"merges\": ";
  ASSERT_NE(tokenizer.find(key), std::string::npos);
  tokenizer.insert(tokenizer.find(key) + key.size(), "[], \"unread\": ");
  write_file(from + "/tokenizer.json", tokenizer);
  const Finished convert = ingot({"convert", from, "--type", "F16", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(convert.exit_code, 0) << convert.err;
  EXPECT_TRUE(result_of(ingot({"inspect", dir_ / "a.gguf", "--json"}))["metadata"].contains("tokenizer.ggml.merges"));
}

TEST_F(TokenizerFilesCli, StrictRefusesAnOverridingNameUnderWhichTheVocabularyIsCutOtherwise) {
  const Finished told = ingot({"convert", base(), "--type", "F16", "--out", dir_ / "a.gguf", "--pre-tokenizer", "gpt-4o"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_NE(told.err.find("GGUF cannot say by which rules text is cut"), std::string::npos) << told.err;
  const Finished strict = ingot({"convert", dir_ / "base", "--type", "F16", "--out", dir_ / "b.gguf", "--pre-tokenizer", "gpt-4o", "--strict"});
  EXPECT_EQ(strict.exit_code, 3) << strict.err;
  const Finished same = ingot({"convert", dir_ / "base", "--type", "F16", "--out", dir_ / "c.gguf", "--pre-tokenizer", "llama-bpe", "--strict"});
  EXPECT_EQ(same.exit_code, 0) << same.err;
}

}  // namespace
}  // namespace ingot::testing
