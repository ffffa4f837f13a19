// Texts as users name them, and their windows.
#include "calibrate/texts.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tokenizer/tokenizer_testing.h"

namespace ingot::calibrate {
namespace {

namespace fs = std::filesystem;

class TextsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/ingot-texts-XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string put(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << text;
    return dir_ + "/" + name;
  }
  static std::vector<Text> must(const std::vector<std::string>& arguments, BuiltinHalf half = BuiltinHalf::kCalibrate) {
    auto texts = read_texts(arguments, half);
    EXPECT_TRUE(texts.ok()) << (texts.ok() ? "" : texts.error().message);
    return texts.ok() ? std::move(*texts) : std::vector<Text>();
  }
  static std::string error(const std::vector<std::string>& arguments) {
    const auto texts = read_texts(arguments);
    if (texts.ok()) return "";
    EXPECT_EQ(texts.error().kind, ErrorKind::kBadInput) << texts.error().message;
    return texts.error().message;
  }
  std::string dir_;
};

std::string brief(const std::vector<Text>& texts) {
  std::string out;
  for (const Text& t : texts) out += fmt::format("{}[{}]", t.category, t.text);
  return out;
}

TEST_F(TextsTest, AFileIsOneTextAndMayHaveACategory) {
  const std::string a = put("a.txt", "one\ntwo\n\n"), b = put("b", "\xEF\xBB\xBF\u4E2D");
  const auto texts = must({a, "code=" + b, a});
  EXPECT_EQ(brief(texts), "[one\ntwo\n]code[\u4E2D][one\ntwo\n]");
  EXPECT_EQ(texts[1].name, b);
}

TEST_F(TextsTest, OfANameWithAnEqualsSignTheFileCountsThatIsThere) {
  const std::string whole = put("x=y", "whole"), y = put("y", "y");
  EXPECT_EQ(brief(must({whole})), "[whole]");
  const auto from = fs::current_path();
  fs::current_path(dir_);
  EXPECT_EQ(brief(must({"x=y", "z=y"})), "[whole]z[y]");
  EXPECT_NE(error({"code=nothing"}).find("'nothing': no such file"), std::string::npos) << error({"code=nothing"});
  fs::current_path(from);
}

TEST_F(TextsTest, VariablesAreExpanded) {
  put("a.txt", "one");
  ::setenv("INGOT_TEXTS_TEST", dir_.c_str(), 1);
  EXPECT_EQ(brief(must({"${INGOT_TEXTS_TEST}/a.txt", "c=${INGOT_TEXTS_TEST}/a.txt"})), "[one]c[one]");
}

TEST_F(TextsTest, ALineOfJsonIsATextOfItsCategory) {
  const std::string path = put("a.JSONL",
                               "\xEF\xBB\xBF{\"text\": \"one\", \"category\": \"c\"}\r\n"
                               "\n"
                               "{\"id\": 7, \"content\": \"two\", \"domain\": \"d\", \"meta\": {\"text\": \"no\", \"category\": \"no\"}}\n"
                               "{\"text\": \"\\u4E2D \\ud83d\\ude00\\n\", \"content\": \"no\", \"domain\": \"no\", \"category\": \"c\"}\n"
                               "{\"text\": \"\"}\n"
                               "{\"text\": null, \"content\": \"three\"}");
  EXPECT_EQ(brief(must({path})), "c[one\n\u4E2D \U0001F600\n]d[two][three]");
  EXPECT_EQ(brief(must({"all=" + path})), "all[one\ntwo\n\u4E2D \U0001F600\n\nthree]");
  // As plain text under another name.
  EXPECT_EQ(must({put("a.txt", "{\"text\": \"one\"}")})[0].text, "{\"text\": \"one\"}");
}

TEST_F(TextsTest, LinesThatAreLongerThanABlockAreWhole) {
  const std::string big(3'000'000, 'x');
  std::string file;
  for (int i = 0; i < 3; ++i) file += "{\"text\": \"" + big + std::to_string(i) + "\"}\n";
  EXPECT_EQ(must({put("a.jsonl", file)})[0].text, big + "0\n" + big + "1\n" + big + "2");
}

TEST_F(TextsTest, ALineThatIsNoSuchObjectIsNamedByItsNumber) {
  const std::string good = "{\"text\": \"one\"}\n\n";
  const std::pair<std::string, const char*> cases[] = {
      {"{\"text\": \"two\"", "line 3: not valid JSON: it ends after 14 bytes"},
      {"{\"text\": \"two\"} x\n{}", "line 3: not valid JSON at byte 17 near 'x'"},
      {"[\"two\"]\n", "line 3: it is no object"},
      {"\"two\"\n", "line 3: it is no object"},
      {"{\"texts\": \"two\"}\n", "line 3: it has no text"},
      {"{\"text\": 7}\n", "line 3: it has no text"},
      {"{\"text\": \"two\", \"text\": 7}\n", "line 3: it has no text"},
      {"{\"messages\": [{\"role\": \"user\", \"content\": \"two\"}]}\n", "chat template"},
      {"{\"text\": \"two \\ud83d\"}\n", "line 3: its text holds half of a surrogate pair"},
      {"{\"text\": \"two \xE9\"}\n", "line 3: byte 32 of the file (0xe9) is no UTF-8"},
      {"{\"text\": \"\", \"x\": " + std::string(100000, '[') + "\n", "line 3: not valid JSON at byte 9"},
      {"{\"text\": \"two\", \"category\": \"" + std::string(101, 'c') + "\"}\n", "its category has 101 bytes"},
  };
  for (const auto& [line, why] : cases) {
    const std::string message = error({put("a.jsonl", good + line)});
    EXPECT_TRUE(message.starts_with("reading '" + dir_ + "/a.jsonl', line 3: ")) << message;
    EXPECT_NE(message.find(why), std::string::npos) << message;
  }
  EXPECT_NE(error({put("a.jsonl", "\n{\"text\": \"\"}\n")}).find("there is no text in its 2 lines"), std::string::npos);
  EXPECT_NE(error({put("a.jsonl", "")}).find("there is no text"), std::string::npos);
  std::string many;
  for (int i = 0; i < 65; ++i) many += fmt::format("{{\"text\": \"x\", \"category\": \"c{}\"}}\n", i);
  const std::string path = put("a.jsonl", many);
  EXPECT_NE(error({path}).find("line 65: \"c64\" is one more than the 64 categories"), std::string::npos) << error({path});
  EXPECT_EQ(must({"one=" + path}).size(), 1u);
}

TEST_F(TextsTest, ALineWithoutEndIsRefusedBeforeItIsRead) {
  const std::string message = error({put("a.jsonl", "{\"text\": \"" + std::string((64u << 20) + 1, ' '))});
  EXPECT_NE(message.find("line 1: it has more than 64 MiB"), std::string::npos) << message;
}

TEST_F(TextsTest, WhatIsNoTextIsRefusedWithWhatToDo) {
  using namespace std::string_literals;
  const std::pair<std::string, const char*> cases[] = {
      {"", "it is empty"},
      {"\n", "it is empty"},
      {"\xEF\xBB\xBF", "it is empty"},
      {"caf\xC3\xA9\nna\xEFve", "line 2: byte 9 of the file (0xef) is no UTF-8"},
      {"cut off \xE4\xB8", "byte 9 of the file (0xe4)"},
      {"PAR1\x15\x04", "parquet"},
      {"\x1F\x8B\x08\xFF", "gzip -dk"},
      {"\x28\xB5\x2F\xFD", "zstd -d"},
      {"\xFF\xFEh\0i\0"s, "iconv -f UTF-16"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git-lfs pointer"},
  };
  for (const auto& [bytes, why] : cases) {
    const std::string message = error({put("a.txt", bytes)});
    EXPECT_NE(message.find(why), std::string::npos) << message;
    EXPECT_NE(message.find("a.txt"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  const std::string parquet = error({put("a.jsonl", "PAR1\x15\x04\x15")});
  EXPECT_NE(parquet.find("read_parquet('" + dir_ + "/a.jsonl').to_json("), std::string::npos) << parquet;
  EXPECT_EQ(must({put("b.txt", "PAR1 is a receptor.")})[0].text, "PAR1 is a receptor.");
  EXPECT_NE(error({dir_}).find("is a directory"), std::string::npos);
  EXPECT_NE(error({dir_ + "/nothing.txt"}).find("no such file"), std::string::npos);
  EXPECT_EQ(read_texts({}).error().kind, ErrorKind::kUsage);
}

TEST_F(TextsTest, APipeGivesATextOfEitherKind) {
  for (const char* name : {"pipe", "pipe.jsonl"}) {
    const std::string pipe = dir_ + "/" + name;
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    const std::string line = "{\"text\": \"one\"}\n";
    std::thread writer([&] { std::ofstream(pipe) << line; });
    EXPECT_EQ(brief(must({pipe})), std::string(name) == "pipe" ? "[{\"text\": \"one\"}]" : "[one]");
    writer.join();
  }
}

TEST_F(TextsTest, ARaisedTokenEndsTheWait) {
  const std::string pipe = dir_ + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  CancelToken cancel;
  cancel.cancel();
  EXPECT_EQ(read_texts({pipe}, BuiltinHalf::kCalibrate, &cancel).error().kind, ErrorKind::kInterrupted);
}

// --- windows ---

using testing::Ids;

Ids window(const TokenWindows& w, int64_t i) {
  const auto begin = w.ids.begin() + i * w.length;
  return Ids(begin, begin + w.length);
}

TokenWindows must_cut(const Tokenizer& t, const std::vector<Text>& texts, const WindowOptions& options) {
  auto w = cut(t, texts, options);
  EXPECT_TRUE(w.ok()) << (w.ok() ? "" : w.error().message);
  return w.ok() ? std::move(*w) : TokenWindows();
}

std::string counting(int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += std::to_string(i) + " and ";
  return out;
}

TEST(Windows, AreTheTokensInOrderAndBeginWithBosWhereATextDoes) {
  const testing::TinyLlama model;
  const Tokenizer t = testing::must(Tokenizer::from_hf(model.files()));
  const std::string text = counting(100);
  const Ids all = testing::encode(t, text, true, false);
  ASSERT_TRUE(t.bos() && all[0] == *t.bos());
  WindowOptions options;
  options.length = 32;
  const TokenWindows w = must_cut(t, {{"f", "", text}}, options);
  ASSERT_EQ(w.count(), static_cast<int64_t>(all.size() / 32));
  ASSERT_NE(all.size() % 32, 0u);
  EXPECT_EQ(w.tokens, static_cast<int64_t>(all.size()));
  for (int64_t i = 0; i < w.count(); ++i) {
    Ids expected(all.begin() + i * 32, all.begin() + (i + 1) * 32);
    expected[0] = *t.bos();
    EXPECT_EQ(window(w, i), expected) << i;
  }
  EXPECT_EQ(w.categories, std::vector<std::string>{""});
  EXPECT_EQ(w.names, std::vector<std::string>{"f"});

  options.skip = 2, options.most = 3;
  const TokenWindows some = must_cut(t, {{"f", "", text}}, options);
  ASSERT_EQ(some.count(), 3);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(window(some, i), window(w, i + 2));
}

TEST(Windows, OfATokenizerWithoutBosAreTheTokensAlone) {
  // BOS is known, but is put before no text; and a text that says it keeps it.
  auto j = testing::byte_bpe();
  j["added_tokens"].push_back(testing::added(256, "<s>"));
  const Tokenizer t = testing::from_files(j, {{"tokenizer_config.json", R"({"bos_token": "<s>"})"}});
  ASSERT_TRUE(t.bos());
  WindowOptions options;
  options.length = 4;
  options.parse_special = true;
  const TokenWindows w = must_cut(t, {{"f", "", "<s>abcdefghi"}}, options);
  ASSERT_EQ(w.count(), 2);
  EXPECT_EQ(window(w, 0)[0], 256);
  EXPECT_EQ(window(w, 1), (Ids(testing::encode(t, "defg"))));
}

TEST(Windows, SpecialTokensInATextAreTextUnlessTheyAreAskedFor) {
  auto j = testing::byte_bpe();
  j["added_tokens"].push_back(testing::added(256, "<|im_start|>"));
  const Tokenizer t = testing::from_json(j);
  WindowOptions options;
  options.length = 12;
  EXPECT_EQ(must_cut(t, {{"f", "", "<|im_start|>"}}, options).ids, testing::encode(t, "<|im_start|>", false, false));
  options.length = 2;
  options.parse_special = true;
  EXPECT_EQ(must_cut(t, {{"f", "", "<|im_start|>x"}}, options).ids[0], 256);
}

TEST(Windows, OfSeveralCategoriesAreTakenInTurnAndStandTogether) {
  const Tokenizer t = testing::from_json(testing::byte_bpe());
  const std::vector<Text> texts = {{"a", "A", "a0a1a2"}, {"b", "B", "b0b1b2b3b4."}, {"a", "A", "a3"}, {"c", "C", "c"}};
  WindowOptions options;
  options.length = 2;
  const auto shown = [&](int64_t skip, int64_t most) {
    options.skip = skip, options.most = most;
    const TokenWindows w = must_cut(t, texts, options);
    std::string out;
    for (int64_t i = 0; i < w.count(); ++i) out += w.categories[static_cast<size_t>(w.category[static_cast<size_t>(i)])] + ":" + t.decode(window(w, i), false) + " ";
    EXPECT_EQ(w.tokens, 20);
    EXPECT_EQ(w.too_short, std::vector<std::string>{"C"});
    EXPECT_EQ(w.names, (std::vector<std::string>{"a", "b", "c"}));
    return out;
  };
  EXPECT_EQ(shown(0, 0), "A:a0 A:a1 A:a2 A:a3 B:b0 B:b1 B:b2 B:b3 B:b4 ");
  EXPECT_EQ(shown(0, 3), "A:a0 A:a1 B:b0 ");
  EXPECT_EQ(shown(3, 4), "A:a2 A:a3 B:b1 B:b2 ");
  EXPECT_EQ(shown(8, 0), "B:b4 ");
}

TEST(Windows, TooLittleTextIsAnErrorWithTheNumberOfTokens) {
  const Tokenizer t = testing::from_json(testing::byte_bpe());
  WindowOptions options;
  options.length = 8;
  const auto none = cut(t, {{"a", "", "1234567"}}, options);
  EXPECT_EQ(none.error().kind, ErrorKind::kBadInput);
  EXPECT_EQ(none.error().message, "the text has 7 tokens, but a window has 8; give more text, or shorter windows with --ctx");
  EXPECT_EQ(cut(t, {{"a", "A", "1234567"}, {"a", "B", "12345"}}, options).error().message,
            "the longest category, 'A', has 7 tokens, but a window has 8; give more text, or shorter windows with --ctx");
  EXPECT_FALSE(cut(t, {}, options).ok());
  options.skip = 1;
  const auto beyond = cut(t, {{"a", "", "12345678"}}, options);
  EXPECT_EQ(beyond.error().kind, ErrorKind::kUsage);
  EXPECT_NE(beyond.error().message.find("--chunk 1: there are 1 windows"), std::string::npos) << beyond.error().message;
  options.length = 1;
  EXPECT_EQ(cut(t, {{"a", "", "12345678"}}, options).error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace ingot::calibrate
