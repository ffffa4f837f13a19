// What a run keeps beside its output: there as a whole or not at all, for the same key alone, with one process at a time.
#include "commit/progress_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "commit/names.h"

namespace ingot {
namespace {

namespace fs = std::filesystem;

const std::string kKey = "0123456789abcdef0123456789abcdef", kOther = "fedcba9876543210fedcba9876543210";

class ProgressFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / fmt::format("ingot_progress_{}", getpid());
    fs::remove_all(dir_);
    store_ = locate(dir_)->store;
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::unique_ptr<ProgressFile> open(const std::string& key = kKey, bool resume = true) {
    said_.clear();
    auto p = ProgressFile::open(*store_, dir_ + "/out.gguf", key, resume, [&](const std::string& text) { said_ += text; });
    EXPECT_TRUE(p.ok()) << p.error().message;
    return p.ok() ? std::move(*p) : nullptr;
  }
  std::string path(const std::string& key = kKey) const { return dir_ + "/.out.gguf.ingot-" + key.substr(0, 12) + ".progress"; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(dir_)) names.push_back(e.path().filename());
    return names;
  }
  std::string dir_, said_;
  Store* store_ = nullptr;
};

TEST_F(ProgressFileTest, IsFoundAgainByItsKey) {
  {
    const auto p = open();
    EXPECT_TRUE(p->found().empty());
    ASSERT_TRUE(p->save("one").ok());
    ASSERT_TRUE(p->save(std::string("two\0\n", 5)).ok());
  }
  EXPECT_EQ(files(), std::vector<std::string>{file_name(path())});
  EXPECT_EQ(open()->found(), std::string("two\0\n", 5));
  EXPECT_EQ(said_, "");
  const auto p = open();
  ASSERT_TRUE(p->remove().ok());
  EXPECT_FALSE(fs::exists(path()));
  ASSERT_TRUE(p->remove().ok());
}

TEST_F(ProgressFileTest, OfAnotherKeyOrAnewIsDiscarded) {
  ASSERT_TRUE(open()->save("one").ok());
  EXPECT_TRUE(open(kOther)->found().empty());
  EXPECT_NE(said_.find("'out.gguf': what an unfinished run with other inputs or settings had computed is discarded"), std::string::npos) << said_;
  EXPECT_TRUE(files().empty());
  ASSERT_TRUE(open()->save("one").ok());
  EXPECT_TRUE(open(kKey, false)->found().empty());
  EXPECT_EQ(said_, "");
  EXPECT_TRUE(files().empty());
  // Of an output whose name begins alike it stays.
  ASSERT_TRUE(open()->save("one").ok());
  ASSERT_TRUE(ProgressFile::open(*store_, dir_ + "/out", kOther, true, [](const std::string&) {}).ok());
  EXPECT_EQ(open()->found(), "one");
}

// Every cut, every changed byte: nothing of it is believed.
TEST_F(ProgressFileTest, DamagedIsBegunAnew) {
  ASSERT_TRUE(open()->save("the sums so far").ok());
  std::ifstream in(path(), std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  const auto check = [&](const std::string& bytes) {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes;
    EXPECT_TRUE(open()->found().empty());
    EXPECT_NE(said_.find("damaged"), std::string::npos);
    EXPECT_TRUE(files().empty());
  };
  for (size_t n = 0; n < whole.size(); ++n) {
    check(whole.substr(0, n));
    std::string changed = whole;
    changed[n] = static_cast<char>(changed[n] ^ 4);
    check(changed);
  }
  check(whole + "x");
  // Another job's, under this one's name.
  ASSERT_TRUE(open(kOther)->save("theirs").ok());
  fs::rename(path(kOther), path());
  EXPECT_TRUE(open()->found().empty());
}

TEST_F(ProgressFileTest, WhatAKillWhileSavingLeavesGoes) {
  (void)open();
  std::ofstream(dir_ + "/." + file_name(path()) + ".ingot-0123456789ab.part") << "half";
  std::ofstream(dir_ + "/.other.gguf.ingot-0123456789ab.part") << "another output's";
  (void)open();
  EXPECT_EQ(files(), std::vector<std::string>{".other.gguf.ingot-0123456789ab.part"});
}

TEST_F(ProgressFileTest, OneProcessAtATime) {
  const auto p = open();
  const auto second = ProgressFile::open(*store_, dir_ + "/out.gguf", kKey, true, [](const std::string&) {});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("another ingot is writing it"), std::string::npos) << second.error().message;
  p->release();
  EXPECT_TRUE(ProgressFile::open(*store_, dir_ + "/out.gguf", kKey, true, [](const std::string&) {}).ok());
}

}  // namespace
}  // namespace ingot
