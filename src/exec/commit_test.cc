// The commit: whatever stops it, under a final name lies the old output or the new one, and a rerun ends with the new one and nothing else.
#include "commit/commit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "exec/exec_testing.h"
#include "commit/names.h"

namespace ingot {
namespace {

using testing::bytes_tensor;
using testing::directory_output;
using testing::file_output;
using testing::pattern;
using testing::PlainStore;
using testing::small_job;
namespace fs = std::filesystem;

class CommitTest : public testing::LocalTest {
 protected:
  Store& store_ = local_store();
  // The old output is the longer one, and has a file more.
  std::vector<NodePtr> old_ = {bytes_tensor(pattern(3000, 1)), bytes_tensor(pattern(2000, 2)), bytes_tensor(pattern(900, 3))};
  std::vector<NodePtr> new_ = {bytes_tensor(pattern(1500, 4)), bytes_tensor(pattern(1000, 5))};

  // "old", "new", "none" or what else lies under a directory's name.
  std::string what_lies(const std::string& name) const {
    if (!fs::exists(at(name))) return "none";
    std::map<std::string, std::string> files;
    for (const auto& e : fs::recursive_directory_iterator(at(name)))
      if (e.is_regular_file()) files[fs::relative(e.path(), at(name))] = get(fs::relative(e.path(), dir_));
    if (files == std::map<std::string, std::string>{{"t0", pattern(3000, 1)}, {"t1", pattern(2000, 2)}, {"sub/t2", pattern(900, 3)}}) return "old";
    if (files == std::map<std::string, std::string>{{"t0", pattern(1500, 4)}, {"sub/t1", pattern(1000, 5)}}) return "new";
    std::string text = "neither:";
    for (const auto& [n, b] : files) text += fmt::format(" {} ({})", n, b.size());
    return text;
  }
};

// Stops the world at the n-th call of the store, for every n, while an older directory is replaced.
TEST_F(CommitTest, AKillAtAnyStepOfReplacingADirectoryLeavesTheOldOrTheNewAndARerunEndsWithTheNew) {
  PlainStore plain(store_);
  for (Store* beneath : {&store_, static_cast<Store*>(&plain)})
    for (const char* then : {"the same", "no resume", "another job"}) {
      int kills = 0;
      for (uint64_t n = 0;; ++n) {
        fs::remove_all(at("w"));
        fs::create_directory(at("w"));
        ASSERT_TRUE(run_job({directory_output(store_, at("w/out"), old_)}, small_job()).ok());
        bool killed = false;
        auto faulty = testing::dies_at(*beneath, n, &killed);
        ExecOptions o = small_job();
        o.leaf_bytes = 1024;
        o.force = true;
        const auto first = run_job({directory_output(*faulty, at("w/out"), new_)}, o);
        if (!killed) {
          ASSERT_TRUE(first.ok()) << first.error().message;
          break;
        }
        ++kills;
        const std::string after = what_lies("w/out");
        if (beneath == &store_) ASSERT_TRUE(after == "old" || after == "new") << "call " << n << ": " << after;
        else ASSERT_TRUE(after == "old" || after == "new" || after == "none") << "call " << n << ": " << after;
        if (std::string(then) == "another job") {
          // Another job to another name beside it, then one with other settings to the same name that is refused: neither loses anything.
          ExecOptions other = small_job();
          other.leaf_bytes = 1024;
          other.seed = 9;
          const auto refused = run_job({directory_output(*beneath, at("w/out"), new_)}, other);
          ASSERT_FALSE(refused.ok()) << "call " << n;
          const std::string left = what_lies("w/out");
          ASSERT_TRUE(left == "old" || left == "new") << "call " << n << ": " << left;
          other.force = true;
          const auto again = run_job({directory_output(*beneath, at("w/out"), new_)}, other);
          ASSERT_TRUE(again.ok()) << again.error().message;
        } else {
          o.resume = std::string(then) == "the same";
          const auto again = run_job({directory_output(*beneath, at("w/out"), new_)}, o);
          ASSERT_TRUE(again.ok()) << "call " << n << ": " << again.error().message;
        }
        ASSERT_EQ(what_lies("w/out"), "new") << then << ", call " << n;
        ASSERT_EQ(names("w"), std::vector<std::string>{"out"}) << then << ", call " << n;
      }
      EXPECT_GT(kills, 20);
    }
}

TEST_F(CommitTest, ATailThatSomethingElseAppendedIsFound) {
  for (const bool directory : {false, true}) {
    ExecOptions o = small_job();
    o.on_progress = [&](const Progress& p) {
      if (p.phase != Phase::kVerify || p.done) return;
      for (const auto& e : fs::recursive_directory_iterator(dir_))
        if (e.is_regular_file() && e.path().string().find(".part") != std::string::npos) std::ofstream(e.path(), std::ios::app) << pattern(5000, 9);
    };
    const Output out = directory ? directory_output(store_, at("d"), new_) : file_output(store_, at("f"), new_);
    const auto r = run_job({out}, o);
    ASSERT_FALSE(r.ok());
    EXPECT_NE(r.error().message.find("bytes, expected"), std::string::npos) << r.error().message;
    EXPECT_EQ(r.error().message.find(".ingot-"), std::string::npos) << r.error().message;
    EXPECT_FALSE(fs::exists(at(directory ? "d" : "f")));
    o.on_progress = nullptr;
    EXPECT_TRUE(run_job({out}, o).ok());
  }
  EXPECT_EQ(get("f").size(), 2504u);
  EXPECT_EQ(what_lies("d"), "new");
}

TEST_F(CommitTest, AStrangeFileAmongTheOnesThatWereWrittenIsFound) {
  ExecOptions o = small_job();
  o.on_progress = [&](const Progress& p) {
    if (p.phase == Phase::kVerify && !p.done)
      for (const auto& e : fs::directory_iterator(dir_))
        if (e.is_directory()) std::ofstream(e.path() / "stranger") << "x";
  };
  const auto r = run_job({directory_output(store_, at("d"), new_)}, o);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("stranger"), std::string::npos) << r.error().message;
  EXPECT_FALSE(fs::exists(at("d")));
}

TEST_F(CommitTest, OutputsInsideOneAnotherAreRefused) {
  fs::create_directory(at("merged"));
  put("merged/t0", "an older one");
  ExecOptions o = small_job();
  o.force = true;
  for (const bool first : {false, true}) {
    std::vector<Output> outs = {file_output(store_, at("merged/m.gguf"), new_), directory_output(store_, at("merged"), new_)};
    if (first) std::reverse(outs.begin(), outs.end());
    const auto r = run_job(outs, o);
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().kind, ErrorKind::kUsage);
    EXPECT_NE(r.error().message.find("lies inside the output"), std::string::npos) << r.error().message;
    const auto planned = plan_job(outs, o);
    ASSERT_FALSE(planned.ok());
    EXPECT_EQ(planned.error().message, r.error().message);
  }
  EXPECT_EQ(get("merged/t0"), "an older one");
}

TEST_F(CommitTest, SpellingsOfOnePathAreOnePath) {
  fs::create_directory(at("d"));
  fs::create_directory_symlink(at("d"), at("link"));
  put("d/there", "x");
  fs::create_symlink(at("d/there"), at("to-there"));
  const std::pair<const char*, const char*> same[] = {{"d/m", "d/./m"}, {"d/m", "link/m"}, {"d/m", "d/../d/m"}, {"d/there", "to-there"}};
  for (const auto& [a, b] : same) {
    ExecOptions o = small_job();
    o.force = true;
    const auto r = run_job({file_output(store_, at(a), new_), file_output(store_, at(b), new_)}, o);
    ASSERT_FALSE(r.ok()) << a << " " << b;
    EXPECT_NE(r.error().message.find("are the same file"), std::string::npos) << r.error().message;
  }
  EXPECT_EQ(names("d"), std::vector<std::string>{"there"});
}

TEST_F(CommitTest, AnOutputOverASourceOfTheSameJobIsRefused) {
  put("model", pattern(2000, 1));
  fs::create_directory(at("dir"));
  put("dir/t0", pattern(2000, 1));
  fs::create_directory_symlink(at("dir"), at("link"));
  ExecOptions o = small_job();
  o.force = true;
  for (const auto& out : {file_output(store_, at("model"), {source("model")}), file_output(store_, at("link/t0"), {source("dir/t0")}),
                          directory_output(store_, at("link"), {source("dir/t0")})}) {
    const auto r = run_job({out}, o);
    ASSERT_FALSE(r.ok());
    EXPECT_NE(r.error().message.find("the same job"), std::string::npos) << r.error().message;
  }
  EXPECT_EQ(get("model"), pattern(2000, 1));
  EXPECT_EQ(get("dir/t0"), pattern(2000, 1));
}

TEST_F(CommitTest, ForceTakesNothingAwayThatIsNotItsOwn) {
  ASSERT_TRUE(run_job({directory_output(store_, at("out"), old_)}, small_job()).ok());
  put("out/notes.txt", "mine");
  fs::create_directories(at("out/other/deep"));
  ExecOptions o = small_job();
  o.force = true;
  auto r = run_job({directory_output(store_, at("out"), new_)}, o);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kUsage);
  EXPECT_NE(r.error().message.find("'notes.txt', 'other/'"), std::string::npos) << r.error().message;
  EXPECT_FALSE(plan_job({directory_output(store_, at("out"), new_)}, o).ok());
  fs::remove(at("out/notes.txt"));
  fs::remove_all(at("out/other"));
  EXPECT_EQ(what_lies("out"), "old");
  EXPECT_EQ(names(), std::vector<std::string>{"out"});
  // What appears while the job runs is kept too.
  o.on_progress = [&](const Progress& p) {
    if (p.phase == Phase::kVerify && !p.done) put("out/late.txt", "late");
  };
  r = run_job({directory_output(store_, at("out"), new_)}, o);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(get("out/late.txt"), "late");
  fs::remove(at("out/late.txt"));
  o.on_progress = nullptr;
  ASSERT_TRUE(run_job({directory_output(store_, at("out"), new_)}, o).ok());
  EXPECT_EQ(what_lies("out"), "new");
}

TEST_F(CommitTest, WhereThereIsNoRenameForceWithBadInputKeepsTheObject) {
  put("source", pattern(2000, 1));
  auto objects = make_memory_store({WriteMode::kParts, 256, 4096, 1000, false});
  auto journal = make_memory_store();
  ExecOptions o = small_job();
  o.journal_store = journal.get();
  o.journal_path = "journal";
  ASSERT_TRUE(run_job({file_output(*objects, "m", old_)}, o).ok());
  const std::string before = *read_text(*objects, "m");
  o.force = true;
  const auto cut = source("source");
  fs::resize_file(at("source"), 1000);
  auto r = run_job({file_output(*objects, "m", {cut})}, o);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
  EXPECT_EQ(*read_text(*objects, "m"), before);
  o.memory = 1;
  ASSERT_FALSE(run_job({file_output(*objects, "m", new_)}, o).ok());
  EXPECT_EQ(*read_text(*objects, "m"), before);
}

TEST_F(CommitTest, EveryOutputOfAJobIsLockedNotTheFirstAlone) {
  for (const char* held : {"a", "b", "c"}) {
    const auto lock = store_.lock(lock_path(at(held)));
    ASSERT_TRUE(lock.ok() && *lock);
    const auto r = run_job({file_output(store_, at("a"), new_), file_output(store_, at("b"), new_), directory_output(store_, at("c"), new_)}, small_job());
    ASSERT_FALSE(r.ok()) << held;
    EXPECT_NE(r.error().message.find(at(held) + ": another ingot is writing it"), std::string::npos) << r.error().message;
  }
  EXPECT_EQ(names(), std::vector<std::string>{});
}

TEST_F(CommitTest, AFileSystemWithoutLocksIsNotAnotherIngot) {
  PlainStore plain(store_);
  ExecOptions o = small_job();
  std::string notice;
  o.on_notice = [&](const std::string& n) { notice += n; };
  ASSERT_TRUE(run_job({file_output(plain, at("a"), new_)}, o).ok());
  EXPECT_NE(notice.find("keeps no locks"), std::string::npos) << notice;
}

TEST_F(CommitTest, TemporariesThatAreLinksAreNotFollowed) {
  put("victim", "precious");
  fs::create_directory(at("victims"));
  ExecOptions o = small_job();
  const auto key_of = [&](const Output& out) { return run_job({out}, o)->key; };
  for (const bool directory : {false, true}) {
    const Output out = directory ? directory_output(store_, at("d"), new_) : file_output(store_, at("f"), new_);
    const std::string key = key_of(out);
    fs::remove_all(out.path);
    if (directory) fs::create_directory_symlink(at("victims"), temporary_path(out.path, key, ".part"));
    else fs::create_symlink(at("victim"), temporary_path(out.path, key, ".part"));
    o.resume = true;
    const auto r = run_job({out}, o);
    EXPECT_FALSE(r.ok());
    EXPECT_EQ(get("victim"), "precious");
    EXPECT_TRUE(fs::is_empty(at("victims")));
    fs::remove(temporary_path(out.path, key, ".part"));
  }
}

TEST_F(CommitTest, ARerunOfAFinishedJobIsUpToDateUntilSomethingIsTouched) {
  put("source", pattern(2000, 1));
  const auto outs = [&] {
    return std::vector<Output>{file_output(store_, at("f"), {source("source")}), directory_output(store_, at("d"), {source("source")})};
  };
  const auto first = run_job(outs(), small_job());
  ASSERT_TRUE(first.ok());
  if (store_.note(at("f")).empty()) GTEST_SKIP() << "no extended attributes here";
  EXPECT_EQ(store_.note(at("f")).substr(0, 65), first->key + " " + first->outputs[0].hash);
  const auto again = run_job(outs(), small_job());
  ASSERT_TRUE(again.ok()) << again.error().message;
  for (int o : {0, 1}) {
    EXPECT_TRUE(again->outputs[o].up_to_date);
    EXPECT_EQ(again->outputs[o].hash, first->outputs[o].hash);
    EXPECT_EQ(again->outputs[o].bytes, first->outputs[o].bytes);
  }
  EXPECT_EQ(again->written_bytes, 0u);
  EXPECT_TRUE(plan_job(outs(), small_job())->up_to_date);
  EXPECT_EQ(names(), (std::vector<std::string>{"d", "f", "source"}));

  // One of several outputs lost: only that is made anew.
  fs::remove(at("f"));
  const auto half = run_job(outs(), small_job());
  ASSERT_TRUE(half.ok()) << half.error().message;
  EXPECT_FALSE(half->outputs[0].up_to_date);
  EXPECT_TRUE(half->outputs[1].up_to_date);
  EXPECT_EQ(half->outputs[0].hash, first->outputs[0].hash);
  EXPECT_EQ(half->written_bytes, 2000u);

  const auto refused = [&](const char* what) {
    const auto r = run_job(outs(), small_job());
    ASSERT_FALSE(r.ok()) << what;
    EXPECT_NE(r.error().message.find("--force"), std::string::npos) << r.error().message;
    EXPECT_NE(r.error().message.find("touched"), std::string::npos) << r.error().message;
    ExecOptions o = small_job();
    o.force = true;
    const auto made = run_job(outs(), o);
    ASSERT_TRUE(made.ok()) << what << made.error().message;
    EXPECT_TRUE(run_job(outs(), small_job()).ok());
  };
  {
    // The same size, one byte changed in place.
    std::fstream f(at("d/sub/t0"), std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(1000);
    f.put('~');
  }
  refused("an output's byte");
  fs::permissions(at("source"), fs::perms::owner_read);
  refused("a source's mode");
  put("d/stranger", "x");
  EXPECT_FALSE(run_job(outs(), small_job()).ok());
}

TEST_F(CommitTest, LongNamesHaveTemporariesThatFit) {
  const std::string name(250, 'n');
  ASSERT_TRUE(run_job({file_output(store_, at(name), new_)}, small_job()).ok());
  EXPECT_EQ(names(), std::vector<std::string>{name});
  // Two that differ at the end alone have temporaries of their own.
  EXPECT_NE(short_name(std::string(200, 'n') + "a"), short_name(std::string(200, 'n') + "b"));
  const std::string accents = short_name("x" + [] { std::string s; while (s.size() < 240) s += "\xc3\xa9"; return s; }());
  EXPECT_EQ((accents.find('~') - 1) % 2, 0u) << "cut within a character";
  EXPECT_EQ(parse_temporary(file_name(temporary_path("a/m.gguf", "0123456789abcdef", ".journal.r3")))->suffix, ".journal.r3");
  EXPECT_FALSE(parse_temporary(".m.gguf.ingot-lock"));
  EXPECT_FALSE(parse_temporary(".m.gguf.ingot-0123456789ag.part"));
}

// A file that a user put into the old directory while it was being replaced survives whatever comes after a kill.
TEST_F(CommitTest, WhatAppearedInTheReplacedDirectoryIsKeptWhateverComesNext) {
  for (const char* then : {"the same", "no resume", "another job", "no force"}) {
    fs::remove_all(at("w"));
    fs::create_directory(at("w"));
    ASSERT_TRUE(run_job({directory_output(store_, at("w/out"), old_)}, small_job()).ok());
    FaultHooks hooks;
    bool killed = false;
    hooks.hook = [&](uint64_t, const char* op, const std::string& path) -> std::string {
      if (std::string(op) == "exchange") std::ofstream(at("w/out/optimizer.pt")) << "precious";
      killed |= std::string(op) == "sync_directory" && fs::exists(at("w/out/t0")) && fs::file_size(at("w/out/t0")) == 1500 && path == at("w");
      return killed ? "killed" : "";
    };
    auto faulty = make_fault_store(store_, hooks);
    ExecOptions o = small_job();
    o.force = true;
    ASSERT_FALSE(run_job({directory_output(*faulty, at("w/out"), new_)}, o).ok());
    ASSERT_TRUE(killed);
    o.force = std::string(then) != "no force";
    o.resume = std::string(then) != "no resume";
    if (std::string(then) == "another job") o.seed = 4;
    const auto r = run_job({directory_output(store_, at("w/out"), new_)}, o);
    ASSERT_TRUE(r.ok()) << then << ": " << r.error().message;
    EXPECT_EQ(what_lies("w/out"), "new") << then;
    EXPECT_EQ(get("w/out.old/optimizer.pt"), "precious") << then;
    EXPECT_EQ(names("w"), (std::vector<std::string>{"out", "out.old"})) << then;
  }
}

// A refused rerun after a kill between the two renames of a file system without exchange.
TEST_F(CommitTest, ARefusedRerunNeverLeavesNothingUnderTheName) {
  PlainStore plain(store_);
  ASSERT_TRUE(run_job({directory_output(store_, at("out"), old_)}, small_job()).ok());
  FaultHooks hooks;
  int renames = 0;
  hooks.hook = [&](uint64_t, const char* op, const std::string&) -> std::string { return (renames += std::string(op) == "rename") > 1 ? "killed" : ""; };
  auto faulty = make_fault_store(plain, hooks);
  ExecOptions o = small_job();
  o.force = true;
  ASSERT_FALSE(run_job({directory_output(*faulty, at("out"), new_)}, o).ok());
  ASSERT_EQ(what_lies("out"), "none");
  o.memory = 1;
  ASSERT_FALSE(run_job({directory_output(plain, at("out"), new_)}, o).ok());
  o.memory = small_job().memory;
  ASSERT_TRUE(run_job({directory_output(plain, at("out"), new_)}, o).ok());
  EXPECT_EQ(what_lies("out"), "new");
  EXPECT_EQ(names(), std::vector<std::string>{"out"});
}

TEST_F(CommitTest, AnotherNameOfATemporarysBytesIsNotWritten) {
  const Output out = file_output(store_, at("f"), new_);
  const std::string key = run_job({out}, small_job())->key;
  fs::remove(at("f"));
  put("victim", "precious");
  fs::create_hard_link(at("victim"), temporary_path(at("f"), key, ".part"));
  ASSERT_TRUE(run_job({out}, small_job()).ok());
  EXPECT_EQ(get("victim"), "precious");
}

TEST_F(CommitTest, WhatIsToBeRemovedIsNamedAsItIsAndNotRemoved) {
  const Output out = directory_output(store_, at("d"), new_);
  const std::string key = run_job({out}, small_job())->key, part = temporary_path(at("d"), key, ".part");
  fs::remove_all(at("d"));
  put("strange", "x");
  fs::rename(at("strange"), part);
  const auto r = run_job({out}, small_job());
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find(part + "; remove it"), std::string::npos) << r.error().message;
  EXPECT_TRUE(fs::exists(part));
}

// A store whose fsync of one file fails: what it holds in memory reads back as it was written, and is lost.
TEST_F(CommitTest, AfterAFailedSyncTheLeavesOfThatFileAreWrittenAgain) {
  std::atomic<uint64_t> writes{0};
  bool failing = true;
  class FailingSync final : public ForwardingWrite {
   public:
    FailingSync(std::unique_ptr<WriteFile> f, const bool* failing, std::atomic<uint64_t>* writes)
        : ForwardingWrite(std::move(f)), failing_(failing), writes_(writes) {}
    Status write(uint64_t at, ByteView b) override {
      *writes_ += b.size();
      return ForwardingWrite::write(at, b);
    }
    Status sync() override { return *failing_ ? Status(failed("syncing: input/output error")) : ForwardingWrite::sync(); }

   private:
    const bool* failing_;
    std::atomic<uint64_t>* writes_;
  };
  class Failing final : public ForwardingStore {
   public:
    Failing(Store& s, const bool* failing, std::atomic<uint64_t>* writes) : ForwardingStore(s), failing_(failing), writes_(writes) {}
    Result<std::unique_ptr<WriteFile>> create(const std::string& p, uint64_t n, bool r) override {
      INGOT_ASSIGN(auto f, ForwardingStore::create(p, n, r));
      if (p.find("bad") == std::string::npos || p.find(".part") == std::string::npos) return f;
      return std::unique_ptr<WriteFile>(new FailingSync(std::move(f), failing_, writes_));
    }

   private:
    const bool* failing_;
    std::atomic<uint64_t>* writes_;
  } store(store_, &failing, &writes);
  const std::vector<Output> outs = {file_output(store, at("good"), old_), file_output(store, at("bad"), new_)};
  ASSERT_FALSE(run_job(outs, small_job()).ok());
  EXPECT_EQ(writes, 2504u);
  failing = false;
  writes = 0;
  const auto r = run_job(outs, small_job());
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(writes, 2504u) << "leaves of a file whose sync failed were trusted";
  EXPECT_EQ(r->resumed_bytes, 5904u);
}

TEST_F(CommitTest, WhatWasReadBackFromIsSaid) {
  ExecOptions o = small_job();
  o.leaf_bytes = 1 << 20;
  o.tile_elements = 0;
  const std::vector<NodePtr> big = {bytes_tensor(pattern(3 << 20, 1))};
  const auto medium = run_job({file_output(store_, at("a"), big)}, o);
  ASSERT_TRUE(medium.ok());
  o.verify = Verify::kCache;
  EXPECT_EQ(run_job({file_output(store_, at("b"), big)}, o)->verified, Verify::kCache);
  o.verify = Verify::kNone;
  EXPECT_EQ(run_job({file_output(store_, at("c"), big)}, o)->verified, Verify::kNone);
  auto memory = make_memory_store();
  o.verify = Verify::kMedium;
  EXPECT_EQ(run_job({file_output(*memory, "d", big)}, o)->verified, Verify::kCache) << "memory is no medium";
}

}  // namespace
}  // namespace ingot
