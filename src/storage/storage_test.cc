// Stores: the promises of store.h, on the local file system and in memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "storage/forwarding.h"

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
  EXPECT_FALSE(is_there(store_, at("a")));
}

TEST_F(LocalStoreTest, DirectoriesAreExchangedInOneStep) {
  fs::create_directory(at("from"));
  fs::create_directory(at("to"));
  put("from/f", "new");
  put("to/g", "old");
  EXPECT_FALSE(store_.rename(at("from"), at("to"), false).ok());
  EXPECT_FALSE(store_.rename(at("from"), at("to"), true).ok());  // not empty
  const auto exchanged = store_.exchange(at("from"), at("to"));
  ASSERT_TRUE(exchanged.ok() && *exchanged);
  EXPECT_EQ(*read_text(store_, at("to/f")), "new");
  EXPECT_EQ(*read_text(store_, at("from/g")), "old");
}

TEST_F(LocalStoreTest, LocksExcludeEachOtherAndLeaveNoFile) {
  auto first = store_.lock(at("l"));
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(*first);
  EXPECT_TRUE((*first)->excludes());
  auto second = store_.lock(at("l"));
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(*second);  // held is no error, and an error is not "held"
  EXPECT_FALSE(store_.lock(at("nothing/l")).ok());
  first->reset();
  EXPECT_FALSE(fs::exists(at("l")));
  EXPECT_TRUE(*store_.lock(at("l")));
}

TEST_F(LocalStoreTest, TemporariesAreNotWrittenThroughLinks) {
  put("victim", "precious");
  fs::create_symlink(at("victim"), at("link"));
  EXPECT_FALSE(store_.create(at("link"), 100, false).ok());
  EXPECT_FALSE(store_.create(at("link"), 100, true).ok());
  EXPECT_FALSE(store_.lock(at("link")).ok());
  EXPECT_EQ(*read_text(store_, at("victim")), "precious");
}

TEST_F(LocalStoreTest, WhatIsMadeAnewTakesNoNameThatIsThere) {
  put("a", "precious");
  fs::create_symlink(at("nowhere"), at("link"));
  for (const char* name : {"a", "link"}) {
    const auto f = store_.create_new(at(name), 3);
    ASSERT_FALSE(f.ok()) << name;
    EXPECT_NE(f.error().message.find("has this name already"), std::string::npos) << f.error().message;
  }
  EXPECT_EQ(*read_text(store_, at("a")), "precious");
  EXPECT_FALSE(fs::exists(at("nowhere")));
  ASSERT_TRUE(store_.create_new(at("b"), 3).ok());
  EXPECT_FALSE(store_.create_new(at("b"), 3).ok());
  const auto memory = make_memory_store();
  ASSERT_TRUE(memory->create_new("b", 3).ok());
  EXPECT_FALSE(memory->create_new("b", 3).ok());
}

TEST_F(LocalStoreTest, ModeAndAttributesAreGivenToNoLinkThatTookTheName) {
  for (const char* name : {"from", "to", "victim"}) put(name, "precious"), fs::permissions(at(name), fs::perms(0600));
  fs::permissions(at("from"), fs::perms(0644));
  const bool noted = store_.set_note(at("from"), "hash") && ::setxattr(at("from").c_str(), "user.mine", "1", 1, 0) == 0;
  ASSERT_TRUE(store_.copy_access(at("from"), at("to")).ok());
  EXPECT_EQ(fs::status(at("to")).permissions(), fs::perms(0644));
  EXPECT_EQ(::getxattr(at("to").c_str(), "user.mine", nullptr, 0), noted ? 1 : -1);
  EXPECT_EQ(store_.note(at("to")), "");
  fs::create_symlink(at("victim"), at("link"));
  fs::create_hard_link(at("victim"), at("second"));
  for (const char* trap : {"link", "second"}) {
    const Status s = store_.copy_access(at("from"), at(trap));
    ASSERT_FALSE(s.ok()) << trap;
    EXPECT_NE(s.error().message.find("something else took its name"), std::string::npos) << s.error().message;
    EXPECT_EQ(fs::status(at("victim")).permissions(), fs::perms(0600)) << trap;
  }
}

TEST_F(LocalStoreTest, AFileThatIsLongerThanItsKnownSizeIsCut) {
  put("a", std::string(5000, 'x'));
  auto f = store_.create(at("a"), 100, true);
  ASSERT_TRUE(f.ok());
  EXPECT_EQ(*(*f)->size(), 100u);
  EXPECT_EQ(fs::file_size(at("a")), 100u);
}

TEST_F(LocalStoreTest, WhatCannotBeLookedAtIsNotTakenForAbsent) {
  EXPECT_FALSE(store_.stat(at("nothing"))->has_value());
  EXPECT_FALSE(store_.stat(at("nothing/below"))->has_value());
  put("file", "x");
  EXPECT_FALSE(store_.stat(at("file/below"))->has_value());
  fs::create_symlink(at("gone"), at("dangling"));
  EXPECT_EQ((*store_.stat(at("dangling")))->kind, Stat::Kind::kDangling);
  EXPECT_FALSE(store_.stat(at(std::string(300, 'n'))).ok());  // ENAMETOOLONG
  if (::geteuid() == 0) return;                                 // root may look everywhere
  fs::create_directory(at("closed"));
  fs::permissions(at("closed"), fs::perms::none);
  EXPECT_FALSE(store_.stat(at("closed/x")).ok());
  fs::permissions(at("closed"), fs::perms::owner_all);
}

TEST_F(LocalStoreTest, OfWhatIsListedDirectoriesAreKnown) {
  put("file", "x");
  fs::create_directory(at("folder"));
  for (const auto& [to, name] : {std::pair("folder", "a-link"), {"file", "b-link"}, {"gone", "dangling"}, {"loop", "loop"}, {"file/below", "through"}})
    fs::create_symlink(to, at(name));
  std::map<std::string, bool> directories;
  const auto entries = store_.list(at(""));
  ASSERT_TRUE(entries.ok()) << entries.error().message;
  for (const Entry& e : *entries) directories[e.name] = e.directory;
  EXPECT_EQ(directories, (std::map<std::string, bool>{
                             {"a-link", true}, {"b-link", false}, {"dangling", false}, {"file", false}, {"folder", true}, {"loop", false}, {"through", false}}));
  // It may be either: ENAMETOOLONG stands for whatever else keeps from looking.
  fs::create_symlink(std::string(300, 'n'), at("unknown"));
  const auto failed = store_.list(at(""));
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message.find("looking at " + at("unknown")), std::string::npos) << failed.error().message;
}

TEST_F(LocalStoreTest, SpellingsOfOnePlaceResolveToOneText) {
  fs::create_directory(at("d"));
  put("d/f", "x");
  fs::create_directory_symlink(at("d"), at("l"));
  fs::create_symlink(at("d/f"), at("g"));
  const std::string one = *store_.resolve(at("d/f"));
  for (const char* other : {"d/./f", "d//f", "l/f", "d/../d/f", "g"}) EXPECT_EQ(*store_.resolve(at(other)), one) << other;
  EXPECT_EQ(*store_.resolve(at("l/new/file")), *store_.resolve(at("d")) + "/new/file");
  EXPECT_NE(*store_.resolve(at("d/other")), one);
}

TEST_F(LocalStoreTest, AFileThatIsTouchedWhileItIsReadIsFound) {
  put("a", "x");
  auto f = *store_.open(at("a"));
  EXPECT_TRUE(f->check_unchanged().ok());
  fs::permissions(at("a"), fs::perms::owner_read);
  Status s = f->check_unchanged();
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("mode"), std::string::npos) << s.error().message;
  f = *store_.open(at("a"));
  put("b", "x");
  fs::rename(at("b"), at("a"));
  s = f->check_unchanged();
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("another file took its name"), std::string::npos) << s.error().message;
  fs::remove(at("a"));
  EXPECT_FALSE(f->check_unchanged().ok());
}

TEST_F(LocalStoreTest, NotesStayWithTheFileAndChangeNoByte) {
  put("a", "x");
  if (!store_.set_note(at("a"), "hello")) GTEST_SKIP() << "no extended attributes here";
  EXPECT_EQ(store_.note(at("a")), "hello");
  ASSERT_TRUE(store_.rename(at("a"), at("b"), false).ok());
  EXPECT_EQ(store_.note(at("b")), "hello");
  EXPECT_EQ(*read_text(store_, at("b")), "x");
  EXPECT_EQ(store_.note(at("a")), "");
}

TEST_F(LocalStoreTest, FarMoreFilesAreOpenThanTheSystemAllows) {
  struct rlimit before, few;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  few = before;
  few.rlim_cur = 40;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<std::unique_ptr<ReadFile>> in;
  std::vector<std::unique_ptr<WriteFile>> out;
  for (int i = 0; i < 200; ++i) {
    auto w = store_.create(at(fmt::format("f{}", i)), 4, false);
    ASSERT_TRUE(w.ok()) << w.error().message;
    out.push_back(std::move(*w));
  }
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(out[i]->write(0, as_bytes(std::to_string(1000 + i))).ok());
  for (auto& w : out) ASSERT_TRUE(w->sync().ok());
  for (int i = 0; i < 200; ++i) {
    auto r = store_.open(at(fmt::format("f{}", i)));
    ASSERT_TRUE(r.ok()) << r.error().message;
    in.push_back(std::move(*r));
  }
  std::string buffer(4, ' ');
  for (int i = 199; i >= 0; --i) {
    ASSERT_TRUE(in[i]->read(0, {reinterpret_cast<std::byte*>(buffer.data()), 4}).ok());
    ASSERT_EQ(buffer, std::to_string(1000 + i));
  }
  // One whose name leads elsewhere by the time it has to be opened again.
  fs::rename(at("f0"), at("moved"));
  put("f0", "evil");
  for (int i = 1; i < 200; ++i) ASSERT_TRUE(in[i]->read(0, {reinterpret_cast<std::byte*>(buffer.data()), 4}).ok());
  const Status s = in[0]->read(0, {reinterpret_cast<std::byte*>(buffer.data()), 4});
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("replaced"), std::string::npos) << s.error().message;
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(LocalStoreTest, AChildOfAForkOpensFilesWhateverOtherThreadsWereAt) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer has no children of several threads";
#endif
  put("a", "abc");
  std::atomic<bool> stop{false};
  std::vector<std::thread> openers;
  for (int i = 0; i < 3; ++i)
    openers.emplace_back([&] {
      while (!stop) (void)store_.open(at("a"));
    });
  int good = 0;
  for (int i = 0; i < 60; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);  // a child that hangs ends by it
      ::_exit(store_.open(at("a")).ok() ? 0 : 1);
    }
    int status = 0;
    good += child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
  }
  stop = true;
  for (std::thread& t : openers) t.join();
  EXPECT_EQ(good, 60);
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
  EXPECT_FALSE(is_there(store_, at("a")));
}

TEST_F(LocalStoreTest, RemoveTakesTreesAndForgivesTheMissing) {
  fs::create_directories(at("d/e"));
  put("d/e/f", "x");
  ASSERT_TRUE(store_.remove(at("d")).ok());
  EXPECT_FALSE(is_there(store_, at("d")));
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
  ASSERT_TRUE(p->write(6, as_bytes("7890")).ok());  // in any order
  ASSERT_TRUE(p->write(0, as_bytes("1234")).ok());
  EXPECT_FALSE(p->complete().ok());  // bytes 4 and 5 are in no part
  ASSERT_TRUE(p->write(4, as_bytes("56")).ok());
  EXPECT_FALSE(p->complete().ok());  // a short one may only be the last
  EXPECT_FALSE(p->write(20, as_bytes("12")).ok());  // over part_count_max
  EXPECT_FALSE(is_there(*multipart, "b"));
  p = *multipart->create("b", 10, false);
  ASSERT_TRUE(p->write(8, as_bytes("90")).ok());
  ASSERT_TRUE(p->write(0, as_bytes("12345678")).ok());
  ASSERT_TRUE(p->complete().ok());
  EXPECT_EQ(*read_text(*multipart, "b"), "1234567890");
  EXPECT_TRUE(is_there(*multipart, "b"));
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

// Whoever adds a call to Store and forgets it in ForwardingStore finds every wrapper answering for itself, not for what is beneath.
TEST(ForwardingStore, HandsEveryCallOn) {
  auto beneath = make_memory_store({WriteMode::kSequential, 1, 2, 3, false, false, false, 7, 9});
  ForwardingStore s(*beneath);
  EXPECT_EQ(s.name(), "memory");
  const Capabilities c = s.capabilities();
  EXPECT_EQ(c.part_count_max, 3u);
  EXPECT_FALSE(c.keeps);
  EXPECT_EQ(c.requests, 7);
  EXPECT_EQ(c.request_bytes, 9u);
  ForwardingWrite w(*s.create("d/f", 0, false));
  ASSERT_TRUE(w.write(0, as_bytes("text")).ok());
  EXPECT_EQ(*w.size(), 4u);
  EXPECT_FALSE(is_there(s, "d/f"));
  ASSERT_TRUE(w.complete().ok());
  ForwardingRead r(*s.open("d/f"));
  EXPECT_EQ(r.size(), 4u);
  EXPECT_EQ(r.path(), "d/f");
  EXPECT_EQ(r.identity(), (*s.stat("d/f"))->identity);
  EXPECT_EQ(s.list("d")->size(), 1u);
  EXPECT_TRUE(s.set_note("d/f", "note"));
  EXPECT_EQ(beneath->note("d/f"), "note");
  ASSERT_TRUE(s.create("g", 0, false).ok());
  ASSERT_TRUE(s.abandon("g").ok());
  {
    const auto lock = *s.lock("l");
    EXPECT_TRUE(beneath->locked("l"));
    EXPECT_TRUE(s.locked("l"));
  }
  ASSERT_TRUE(s.remove("d").ok());
  EXPECT_FALSE(is_there(*beneath, "d/f"));
  EXPECT_FALSE(r.check_unchanged().ok());
}

TEST(SlowStore, CountsCallsAndTheRoundTripsInSequence) {
  auto beneath = make_memory_store();
  SlowCounts counts;
  auto s = make_slow_store(*beneath, {std::chrono::milliseconds(1), 3, 1 << 20}, &counts);
  EXPECT_EQ(s->capabilities().requests, 3);
  EXPECT_EQ(s->capabilities().request_bytes, 1u << 20);
  auto w = *s->create("a", 0, false);
  ASSERT_TRUE(w->write(0, as_bytes("text")).ok());
  EXPECT_EQ(*read_text(*s, "a"), "text");  // open, read
  EXPECT_EQ(counts.calls, 4u);
  EXPECT_EQ(counts.rounds, 4u);
  EXPECT_FALSE(s->open("b").ok());
  EXPECT_EQ(counts.rounds, 5u);
}

// No more than `requests` at once, and those at once are one round trip: each call waits until the others are there.
TEST(SlowStore, WhatIsUnderWayTogetherIsOneRoundTrip) {
  class Gathering final : public ForwardingStore {
   public:
    using ForwardingStore::ForwardingStore;
    Result<std::optional<Stat>> stat(const std::string&) override {
      std::unique_lock lock(mutex_);
      most_ = std::max(most_, ++here_);
      if (++came_ % 3 == 0) all_.notify_all();
      all_.wait(lock, [&, until = (came_ + 2) / 3 * 3] { return came_ >= until; });
      --here_;
      return std::optional<Stat>();
    }
    int most_ = 0;

   private:
    std::mutex mutex_;
    std::condition_variable all_;
    int here_ = 0, came_ = 0;
  };
  auto memory = make_memory_store();
  Gathering gathering(*memory);
  SlowCounts counts;
  auto s = make_slow_store(gathering, {std::chrono::milliseconds(0), 3, 1}, &counts);
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) threads.emplace_back([&] { (void)s->stat("x"); });
  for (auto& t : threads) t.join();
  EXPECT_EQ(counts.calls, 6u);
  EXPECT_EQ(gathering.most_, 3);
  EXPECT_EQ(counts.rounds, 2u);
}

TEST(Locate, PathsAndFileUrlsAreLocalOtherSchemesSayWhatToDo) {
  const std::pair<const char*, const char*> local[] = {
      {"a/b", "a/b"}, {"/a", "/a"}, {"", ""}, {"a/s3://b", "a/s3://b"}, {"://x", "://x"}, {"file:/a", "file:/a"},
      {"file:///a/b", "/a/b"}, {"file://localhost/a", "/a"}, {"file:///a%20b%2f%C3%A9", "/a b/\xC3\xA9"}, {"file:///100%", "/100%"},
      {"file:///%0x%00%1", "/%0x%00%1"}};
  for (const auto& [given, path] : local) {
    const auto at = locate(given);
    ASSERT_TRUE(at.ok()) << given << ": " << at.error().message;
    EXPECT_EQ(at->store, &local_store()) << given;
    EXPECT_EQ(at->path, path) << given;
    EXPECT_EQ(locate(at->path)->path, path) << given;
  }
  for (const char* given : {"file://", "file://a", "file://host/a"}) EXPECT_EQ(locate(given).error().kind, ErrorKind::kUsage) << given;
  for (const char* scheme : {"s3", "gs", "az", "https", "hf"}) {
    const auto at = locate(fmt::format("{}://bucket/x", scheme), "write here");
    ASSERT_FALSE(at.ok());
    EXPECT_EQ(at.error().kind, ErrorKind::kBadInput);
    EXPECT_EQ(at.error().message, fmt::format("'{0}://bucket/x': {0}:// is not there yet in this version of ingot; write here", scheme));
  }
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
