// Texts that users name, whole and in blocks.
#include "storage/text_input.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace ingot {
namespace {

class TextInputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/ingot-text-input-XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  Located put(const std::string& text) {
    std::ofstream(dir_ + "/a", std::ios::binary) << text;
    auto at = text_path(dir_ + "/a");
    EXPECT_TRUE(at.ok());
    return *at;
  }
  std::string dir_;
  CancelToken cancel_;
};

TEST_F(TextInputTest, BlocksAreTheFileInOrder) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1} << 20, (size_t{3} << 20) + 5}) {
    std::string text(size, '\0');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i % 251);
    const Located at = put(text);
    std::string joined;
    size_t most = 0;
    ASSERT_TRUE(read_text_blocks(at, size, cancel_, [&](std::string_view block) -> Status {
                  EXPECT_FALSE(block.empty());
                  joined += block;
                  most = std::max(most, block.size());
                  return {};
                }).ok());
    EXPECT_EQ(joined, text) << size;
    EXPECT_LE(most, size_t{1} << 20);
    EXPECT_EQ(*read_text_at(at, size, cancel_), text);
  }
}

TEST_F(TextInputTest, WhatIsTooLargeIsRefusedBeforeItIsRead) {
  const Located at = put("0123456789");
  int blocks = 0;
  const Status s = read_text_blocks(at, 9, cancel_, [&](std::string_view) -> Status { return ++blocks, Status(); });
  EXPECT_EQ(s.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(s.error().message.find("it is 10 bytes, more than the 9"), std::string::npos) << s.error().message;
  EXPECT_EQ(blocks, 0);
  EXPECT_FALSE(read_text_at(at, 9, cancel_).ok());
}

TEST_F(TextInputTest, AnErrorOrARaisedTokenEndsTheReading) {
  const Located at = put(std::string(3 << 20, 'x'));
  int blocks = 0;
  const Status s = read_text_blocks(at, 4 << 20, cancel_, [&](std::string_view) -> Status { return ++blocks, bad_input("enough"); });
  EXPECT_EQ(s.error().message, "enough");
  EXPECT_EQ(blocks, 1);
  const Status interrupted = read_text_blocks(at, 4 << 20, cancel_, [&](std::string_view) -> Status { return ++blocks, cancel_.cancel(), Status(); });
  EXPECT_EQ(interrupted.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(blocks, 2);
}

TEST_F(TextInputTest, WhatIsNotThereIsAnErrorWithTheNameThatWasMeant) {
  (void)put("x");
  std::ofstream(dir_ + "/prose.txt") << "x";
  const auto at = text_path(dir_ + "/prosa.txt");
  EXPECT_EQ(at.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(at.error().message.find("did you mean '" + dir_ + "/prose.txt'?"), std::string::npos) << at.error().message;
  EXPECT_EQ(text_path("${INGOT_NOT_SET_AT_ALL}/a").error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(text_path("").ok());
}

}  // namespace
}  // namespace ingot
