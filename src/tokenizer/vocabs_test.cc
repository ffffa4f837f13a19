// Exactness on real vocabularies: llama.cpp's own test data (tests/data/vocabs: metadata-only GGUF files,
// texts and ids).
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "tokenizer/json_write.h"
#include "tokenizer/tokenizer.h"

namespace ingot {
namespace {

std::string path_of(const std::string& name) { return INGOT_SOURCE_DIR "/tests/data/vocabs/" + name; }

std::string slurp(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

std::string unxz(const std::string& path) {
  FILE* p = popen(("xz -dc '" + path + "'").c_str(), "r");
  std::string out;
  if (!p) return out;
  char buffer[1 << 16];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, p)) > 0;) out.append(buffer, n);
  return pclose(p) == 0 ? out : std::string();
}

// Just enough of GGUF for these trusted files; the real reader is in src/formats.
class MetadataReader {
 public:
  explicit MetadataReader(const std::string& bytes) : p_(bytes.data()) {
    p_ += 4 + 4 + 8;  // magic, version, number of tensors
    for (auto n = take<uint64_t>(); n > 0; --n) {
      const std::string key = text();
      value(key, take<uint32_t>());
    }
  }
  std::map<std::string, std::vector<std::string>> texts;
  std::map<std::string, std::vector<int64_t>> numbers;
  std::map<std::string, std::vector<float>> floats;

 private:
  template <class T>
  T take() {
    T v;
    std::memcpy(&v, p_, sizeof v);
    p_ += sizeof v;
    return v;
  }
  std::string text() {
    const auto n = take<uint64_t>();
    p_ += n;
    return std::string(p_ - n, n);
  }
  void value(const std::string& key, uint32_t type) {
    switch (type) {
      case 0:
      case 1:
      case 7:
        numbers[key].push_back(take<uint8_t>());
        break;
      case 2:
      case 3:
        numbers[key].push_back(take<int16_t>());
        break;
      case 4:
      case 5:
        numbers[key].push_back(take<int32_t>());
        break;
      case 6:
        floats[key].push_back(take<float>());
        break;
      case 8:
        texts[key].push_back(text());
        break;
      case 9: {
        const auto element = take<uint32_t>();
        for (auto n = take<uint64_t>(); n > 0; --n) value(key, element);
        break;
      }
      default:
        numbers[key].push_back(take<int64_t>());
    }
  }
  const char* p_;
};

GgufVocab read_vocab(const std::string& name) {
  const std::string bytes = unxz(path_of(name + ".gguf.xz"));
  GgufVocab v;
  EXPECT_GT(bytes.size(), 1000u) << "xz -dc failed: is xz-utils installed?";
  if (bytes.size() <= 1000) return v;
  MetadataReader m(bytes);
  const std::string k = "tokenizer.ggml.";
  v.model = m.texts[k + "model"].at(0);
  if (const auto& pre = m.texts[k + "pre"]; !pre.empty()) v.pre = pre[0];
  v.tokens = m.texts[k + "tokens"];
  v.merges = m.texts[k + "merges"];
  for (const int64_t t : m.numbers[k + "token_type"]) v.token_types.push_back(static_cast<int32_t>(t));
  v.scores = m.floats[k + "scores"];
  if (!m.numbers[k + "bos_token_id"].empty()) v.bos = static_cast<int32_t>(m.numbers[k + "bos_token_id"][0]);
  return v;
}

class Vocabs : public testing::TestWithParam<const char*> {};

// Each text with the ids that the reference has for it.
std::vector<std::pair<std::string, std::vector<int32_t>>> cases_of(const std::string& name) {
  std::vector<std::pair<std::string, std::vector<int32_t>>> cases;
  std::istringstream out(slurp(path_of(name + ".out")));
  const std::string in = slurp(path_of(name + ".inp")), separator = "\n__ggml_vocab_test__\n";
  for (size_t begin = 0, end; (end = in.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    std::string line;
    EXPECT_TRUE(std::getline(out, line));
    std::istringstream fields(line);
    auto& ids = cases.emplace_back(in.substr(begin, end - begin), std::vector<int32_t>()).second;
    for (int32_t id; fields >> id;) ids.push_back(id);
  }
  EXPECT_GT(cases.size(), 40u);
  return cases;
}

TEST_P(Vocabs, GivesTheIdsOfTheReference) {
  const std::string name = GetParam();
  const auto t = Tokenizer::from_gguf(read_vocab(name));
  ASSERT_TRUE(t.ok()) << t.error().message;
  for (const auto& [text, expected] : cases_of(name)) {
    const auto ids = t->encode(text, false);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*ids, expected) << name << ": " << text;
    EXPECT_TRUE(name == "bert-bge" || t->decode(*ids, false) == text) << text;  // BERT's drops case and space
  }
}

// As the files of a directory it is still that tokenizer, and makes the same keys again.
TEST_P(Vocabs, LeadsBackToATokenizerJsonOfTheSameIds) {
  const std::string name = GetParam();
  const GgufVocab v = read_vocab(name);
  const auto made = hf_tokenizer_of(v, 512);
  ASSERT_TRUE(made.ok()) << made.error().message;
  const auto t = Tokenizer::from_hf(HfTokenizerFiles::among(made->files));
  ASSERT_TRUE(t.ok()) << t.error().message;
  EXPECT_EQ(t->size(), v.tokens.size());
  for (const auto& [text, expected] : cases_of(name)) {
    const auto ids = t->encode(text, false);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*ids, expected) << name << ": " << text;
    EXPECT_TRUE(name == "bert-bge" || t->decode(*ids, false) == text) << text;
  }
  const auto again = t->to_gguf_vocab();
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(again->model, v.model);
  EXPECT_EQ(again->tokens, v.tokens);
  EXPECT_EQ(again->merges, v.merges);
  if (v.bos) { EXPECT_EQ(again->bos, v.bos); }
}

INSTANTIATE_TEST_SUITE_P(Shared, Vocabs,
                         testing::Values("llama-bpe", "gpt-2", "qwen2", "falcon", "deepseek-coder", "llama-spm", "phi-3", "bert-bge"),
                         [](const auto& info) {
                           std::string s = info.param;
                           for (char& c : s) c = c == '-' ? '_' : c;
                           return s;
                         });

}  // namespace
}  // namespace ingot
