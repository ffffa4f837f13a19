// Stores: the promises of store.h, on the local file system and in memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "storage/store.h"

namespace ingot {
namespace {

namespace fs = std::filesystem;

class LocalStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/ingot-storage-XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string at(const std::string& name) const { return dir_ + "/" + name; }
  void put(const std::string& name, const std::string& text) { std::ofstream(at(name)) << text; }
  Store& store_ = local_store();
  std::string dir_;
};

TEST_F(LocalStoreTest, ReadsExactlyAndSaysWhereAFileEnds) {
  put("a", "0123456789");
  auto f = store_.open(at("a"));
  ASSERT_TRUE(f.ok());
  EXPECT_EQ((*f)->size(), 10u);
  std::string buffer(4, ' ');
  ASSERT_TRUE((*f)->read(3, {reinterpret_cast<std::byte*>(buffer.data()), 4}).ok());
  EXPECT_EQ(buffer, "3456");
  Status s = (*f)->read(8, {reinterpret_cast<std::byte*>(buffer.data()), 4});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(s.error().message.find("ends at byte 10"), std::string::npos) << s.error().message;
}

TEST_F(LocalStoreTest, MissingFilesDirectoriesAndPipesAreErrors) {
  EXPECT_EQ(store_.open(at("nothing")).error().kind, ErrorKind::kBadInput);
  EXPECT_FALSE(store_.open(dir_).ok());
  EXPECT_FALSE(store_.list(at("nothing")).ok());
}

TEST_F(LocalStoreTest, IdentityChangesWithTheContent) {
  put("a", "x");
  const std::string before = (*store_.open(at("a")))->identity();
  EXPECT_EQ((*store_.open(at("a")))->identity(), before);
  put("a", "xy");
  EXPECT_NE((*store_.open(at("a")))->identity(), before);
}

TEST_F(LocalStoreTest, RenameRefusesOrReplaces) {
  put("a", "new");
  put("b", "old");
  EXPECT_FALSE(store_.rename(at("a"), at("b"), false).ok());
  EXPECT_EQ(*read_text(store_, at("b")), "old");
  ASSERT_TRUE(store_.rename(at("a"), at("b"), true).ok());
  EXPECT_EQ(*read_text(store_, at("b")), "new");
  EXPECT_FALSE(store_.exists(at("a")));
}

TEST_F(LocalStoreTest, DirectoriesAreExchangedInOneStep) {
  fs::create_directory(at("from"));
  fs::create_directory(at("to"));
  put("from/f", "new");
  put("to/g", "old");
  EXPECT_FALSE(store_.rename(at("from"), at("to"), false).ok());
  ASSERT_TRUE(store_.rename(at("from"), at("to"), true).ok());
  EXPECT_EQ(*read_text(store_, at("to/f")), "new");
  EXPECT_FALSE(store_.exists(at("to/g")));
  EXPECT_FALSE(store_.exists(at("from")));
}

TEST_F(LocalStoreTest, LocksExcludeEachOther) {
  auto first = store_.lock(at("l"));
  ASSERT_TRUE(first.ok());
  auto second = store_.lock(at("l"));
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("another ingot"), std::string::npos);
  first->reset();
  EXPECT_TRUE(store_.lock(at("l")).ok());
}

TEST_F(LocalStoreTest, CreateReservesTheSizeAndResumeKeepsBytes) {
  {
    auto f = store_.create(at("a"), 100, false);
    ASSERT_TRUE(f.ok());
    ASSERT_TRUE((*f)->write(50, as_bytes("hello")).ok());
    ASSERT_TRUE((*f)->sync().ok());
  }
  EXPECT_EQ(fs::file_size(at("a")), 100u);
  auto f = store_.create(at("a"), 100, true);
  std::string buffer(5, ' ');
  ASSERT_TRUE((*f)->read_back(50, {reinterpret_cast<std::byte*>(buffer.data()), 5}).ok());
  EXPECT_EQ(buffer, "hello");
}

TEST_F(LocalStoreTest, AHugeSizeIsRefusedBeforeTheWork) {
  auto f = store_.create(at("a"), 1ull << 60, false);
  ASSERT_FALSE(f.ok());
  EXPECT_FALSE(store_.exists(at("a")));
}

TEST_F(LocalStoreTest, RemoveTakesTreesAndForgivesTheMissing) {
  fs::create_directories(at("d/e"));
  put("d/e/f", "x");
  ASSERT_TRUE(store_.remove(at("d")).ok());
  EXPECT_FALSE(store_.exists(at("d")));
  EXPECT_TRUE(store_.remove(at("d")).ok());
}

TEST(MemoryStore, KeepsToItsCapabilities) {
  auto appending = make_memory_store({WriteMode::kSequential, 0, 0, 0, true});
  auto f = *appending->create("a", 10, false);
  ASSERT_TRUE(f->write(0, as_bytes("abc")).ok());
  EXPECT_FALSE(f->write(1, as_bytes("x")).ok());
  EXPECT_EQ((*appending->create("a", 10, true))->resumed(), 3u);

  auto multipart = make_memory_store({WriteMode::kParts, 4, 8, 3, false});
  auto p = *multipart->create("b", 10, false);
  EXPECT_FALSE(p->write(0, as_bytes("123456789")).ok());  // over part_max
  ASSERT_TRUE(p->write(0, as_bytes("1234")).ok());
  ASSERT_TRUE(p->write(4, as_bytes("56")).ok());   // a short one may only be the last
  EXPECT_FALSE(p->write(6, as_bytes("7890")).ok());
  EXPECT_FALSE(multipart->exists("b"));
  ASSERT_TRUE(p->complete().ok());
  EXPECT_TRUE(multipart->exists("b"));
  EXPECT_FALSE(multipart->rename("b", "c", false).ok());
}

TEST(FaultStore, NumbersCallsAndStaysDead) {
  auto beneath = make_memory_store();
  std::vector<std::string> calls;
  FaultHooks hooks;
  hooks.hook = [&](uint64_t n, const char* op, const std::string& path) -> std::string {
    calls.push_back(std::to_string(n) + op + path);
    return n == 2 ? "boom" : "";
  };
  auto s = make_fault_store(*beneath, hooks);
  auto f = *s->create("a", 0, false);
  ASSERT_TRUE(f->write(0, as_bytes("x")).ok());
  EXPECT_FALSE(f->write(1, as_bytes("y")).ok());
  EXPECT_FALSE(f->sync().ok());
  EXPECT_FALSE(s->remove("a").ok());
  EXPECT_EQ(calls, (std::vector<std::string>{"0createa", "1writea", "2writea"}));
  EXPECT_EQ(*read_text(*beneath, "a"), "x");
}

TEST(Paths, AreSplitAndJoined) {
  EXPECT_EQ(parent_path("a/b/c"), "a/b");
  EXPECT_EQ(parent_path("a"), ".");
  EXPECT_EQ(parent_path("/a"), "/");
  EXPECT_EQ(file_name("a/b"), "b");
  EXPECT_EQ(join_path(".", "b"), "b");
  EXPECT_EQ(join_path("/", "b"), "/b");
}

}  // namespace
}  // namespace ingot
