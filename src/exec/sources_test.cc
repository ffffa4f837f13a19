// Sources that change, unfinished runs that are met again, and threads that cannot be had.
#include <gtest/gtest.h>

#include <thread>

#include "commit/commit.h"
#include "exec/exec_testing.h"
#include "commit/names.h"

namespace ingot {
namespace {

using testing::directory_output;
using testing::file_output;
using testing::pattern;
using testing::PlainStore;
using testing::small_job;
namespace fs = std::filesystem;

class SourcesTest : public testing::LocalTest {
 protected:
  SourcesTest() { put("source", pattern(20000, 1)); }
  Store& store_ = local_store();
  // Raised when half is written.
  ExecOptions stopping(CancelToken* cancel) const {
    ExecOptions o = small_job();
    o.threads = 1;
    o.cancel = cancel;
    o.on_progress = [cancel](const Progress& p) {
      if (p.phase == Phase::kWrite && p.done > p.total / 2) cancel->cancel();
    };
    return o;
  }
};

TEST_F(SourcesTest, AnyChangeDuringARunIsAnErrorAndNothingIsPublished) {
  using Change = void (*)(const std::string&);
  const std::pair<const char*, Change> changes[] = {
      {"written to", [](const std::string& p) { std::fstream(p, std::ios::in | std::ios::out).put('~'); }},
      {"size changed", [](const std::string& p) { std::ofstream(p, std::ios::app).put('~'); }},
      {"took its name", [](const std::string& p) { fs::copy_file(p, p + ".new"); fs::rename(p + ".new", p); }},
      {"mode", [](const std::string& p) { fs::permissions(p, fs::perms::owner_read); }},
      {"links", [](const std::string& p) { fs::create_hard_link(p, p + ".link"); }},
      {"no longer there", [](const std::string& p) { fs::remove(p); }},
  };
  for (const auto& [what, change] : changes) {
    for (const auto& n : names()) fs::remove_all(at(n));
    put("source", pattern(20000, 1));
    ExecOptions o = small_job();
    o.on_progress = [&, change = change](const Progress& p) {
      if (p.phase == Phase::kVerify && !p.done) change(at("source"));
    };
    const auto r = run_job({file_output(store_, at("out"), {source("source")})}, o);
    ASSERT_FALSE(r.ok()) << what;
    EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(r.error().message.find(what), std::string::npos) << r.error().message;
    EXPECT_FALSE(fs::exists(at("out"))) << what;
    for (const auto& n : names()) EXPECT_NE(n[0], '.') << n << " is left behind";
  }
}

TEST_F(SourcesTest, ATouchBetweenAKillAndTheRerunStartsOverWithANotice) {
  CancelToken cancel;
  ASSERT_FALSE(run_job({file_output(store_, at("out"), {source("source")})}, stopping(&cancel)).ok());
  {
    // Untouched, it goes on; stopped again.
    CancelToken again;
    ExecOptions o = small_job();
    o.cancel = &again;
    o.on_progress = [&](const Progress& p) {
      if (p.phase == Phase::kWrite) {
        EXPECT_GT(p.resumed, 0u);
        again.cancel();
      }
    };
    ASSERT_FALSE(run_job({file_output(store_, at("out"), {source("source")})}, o).ok());
  }
  fs::create_hard_link(at("source"), at("link"));
  std::string notice;
  ExecOptions o = small_job();
  o.on_notice = [&](const std::string& n) { notice += n; };
  const auto r = run_job({file_output(store_, at("out"), {source("source")})}, o);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->resumed_bytes, 0u);
  EXPECT_NE(notice.find("touched"), std::string::npos) << notice;
  EXPECT_EQ(names(), (std::vector<std::string>{"link", "out", "source"}));
}

TEST_F(SourcesTest, AnotherFileOfTheSameSizeAndTimeIsAnotherSource) {
  CancelToken cancel;
  ASSERT_FALSE(run_job({file_output(store_, at("out"), {source("source")})}, stopping(&cancel)).ok());
  const auto time = fs::last_write_time(at("source"));
  put("other", pattern(20000, 2));
  fs::last_write_time(at("other"), time);
  const auto r = run_job({file_output(store_, at("out"), {source("other")})}, small_job());
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(get("out"), "head" + pattern(20000, 2));
}

TEST_F(SourcesTest, AnInterruptedRunSaysWhatRemainsAndHowToDiscardIt) {
  CancelToken cancel;
  const auto r = run_job({file_output(store_, at("out"), {source("source")})}, stopping(&cancel));
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kInterrupted);
  EXPECT_NE(r.error().message.find("20004 bytes in " + dir_), std::string::npos) << r.error().message;
  EXPECT_NE(r.error().message.find("--no-resume"), std::string::npos) << r.error().message;
}

TEST_F(SourcesTest, AnUnfinishedRunOfOtherOutputsIsToldOfAndOneOfTheSameIsDiscardedWhole) {
  CancelToken cancel;
  fs::create_directory(at("w"));
  ASSERT_FALSE(run_job({file_output(store_, at("w/F16"), {source("source")}), directory_output(store_, at("w/Q4"), {source("source"), source("source")})},
                       stopping(&cancel)).ok());
  const size_t left = names("w").size();
  EXPECT_EQ(left, 3u);  // two temporaries and a journal
  std::string notice;
  ExecOptions o = small_job();
  o.on_notice = [&](const std::string& n) { notice += n; };
  ASSERT_TRUE(run_job({file_output(store_, at("w/Q8"), {source("source")})}, o).ok());
  EXPECT_NE(notice.find("'F16', 'Q4'"), std::string::npos) << notice;
  EXPECT_NE(notice.find("60004 bytes"), std::string::npos) << notice;
  EXPECT_EQ(names("w").size(), left + 1);
  notice.clear();
  o.seed = 3;
  // The second of its outputs alone: the journal lies beside the first.
  ASSERT_TRUE(run_job({directory_output(store_, at("w/Q4"), {source("source"), source("source")})}, o).ok());
  EXPECT_NE(notice.find("discarded"), std::string::npos) << notice;
  EXPECT_EQ(names("w"), (std::vector<std::string>{"Q4", "Q8"}));
}

// Jobs that make the same bytes under other names have the same key.
TEST_F(SourcesTest, AnUnfinishedRunOfTheSameKeyUnderAnotherNameIsLeftAlone) {
  for (const char* name : {"a", "b"}) {
    CancelToken cancel;
    ASSERT_FALSE(run_job({file_output(store_, at(name), {source("source")})}, stopping(&cancel)).ok());
  }
  const auto left = names();
  EXPECT_EQ(left.size(), 5u);
  std::string notice;
  ExecOptions o = small_job();
  o.on_notice = [&](const std::string& n) { notice += n; };
  o.seed = 8;
  ASSERT_TRUE(run_job({file_output(store_, at("a"), {source("source")})}, o).ok());
  EXPECT_NE(notice.find("'a': an unfinished run"), std::string::npos) << notice;
  EXPECT_NE(notice.find("was to write 'b'"), std::string::npos) << notice;
  EXPECT_EQ(names(), (std::vector<std::string>{left[2], left[3], "a", "source"}));  // b's journal and temporary
  const auto b = run_job({file_output(store_, at("b"), {source("source")})}, small_job());
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_GT(b->resumed_bytes, 0u);
}

TEST_F(SourcesTest, OtherSettingsDiscardTheUnfinishedRun) {
  CancelToken cancel;
  ASSERT_FALSE(run_job({file_output(store_, at("out"), {source("source")})}, stopping(&cancel)).ok());
  ExecOptions o = small_job();
  o.seed = 8;
  std::string notice;
  o.on_notice = [&](const std::string& n) { notice += n; };
  ASSERT_TRUE(run_job({file_output(store_, at("out"), {source("source")})}, o).ok());
  EXPECT_NE(notice.find("discarded"), std::string::npos) << notice;
  EXPECT_EQ(names(), (std::vector<std::string>{"out", "source"}));
}

TEST_F(SourcesTest, ADryRunMakesTheChecksOfTheRun) {
  put("out", "there");
  const auto both = [&](const std::vector<Output>& outs, ExecOptions o) {
    const auto planned = plan_job(outs, o);
    const auto made = run_job(outs, o);
    EXPECT_FALSE(planned.ok());
    EXPECT_FALSE(made.ok());
    if (planned.ok() || made.ok()) return;
    EXPECT_EQ(planned.error().message, made.error().message);
  };
  both({file_output(store_, at("out"), {source("source")})}, small_job());
  both({file_output(store_, at("source/out"), {source("source")})}, small_job());
  both({file_output(store_, at("a"), {source("source")}), file_output(store_, at("./a"), {source("source")})}, small_job());
  ExecOptions o = small_job();
  o.memory = 1;
  both({file_output(store_, at("a"), {source("source")})}, o);
  fs::create_directory(at("d"));
  put("d/mine", "x");
  o = small_job();
  o.force = true;
  both({directory_output(store_, at("d"), {source("source")})}, o);
  EXPECT_EQ(names(), (std::vector<std::string>{"d", "out", "source"}));
}

TEST_F(SourcesTest, DirectoriesAboveAnOutputAreMadeAndGoAgainWithAJobThatIsRefused) {
  ASSERT_TRUE(plan_job({file_output(store_, at("a/b/out"), {source("source")})}, small_job()).ok());
  EXPECT_FALSE(fs::exists(at("a")));
  ExecOptions o = small_job();
  o.memory = 1;
  ASSERT_FALSE(run_job({file_output(store_, at("a/b/out"), {source("source")})}, o).ok());
  EXPECT_FALSE(fs::exists(at("a")));
  const auto r = run_job({file_output(store_, at("a/b/out"), {source("source")}), directory_output(store_, at("a/c/out"), {source("source")})}, small_job());
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(names("a/b"), std::vector<std::string>{"out"});
  EXPECT_EQ(names("a/c"), std::vector<std::string>{"out"});
}

TEST_F(SourcesTest, BadMemoryInAWorkerIsAnErrorAndNoAbort) {
  class Greedy final : public Source {
   public:
    TensorSpec spec() const override { return {DType::kU8, {1000}}; }
    std::string describe() const override { return "greedy"; }
    Result<uint64_t> read(const Region&, MutByteView) const override { throw std::bad_alloc(); }
  };
  const auto r = run_job({file_output(store_, at("out"), {std::make_shared<Greedy>()})}, small_job());
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("out of memory"), std::string::npos) << r.error().message;
}

class RanksTest : public SourcesTest {
 protected:
  ExecOptions rank(int r, int world) const {
    ExecOptions o = small_job();
    o.leaf_bytes = 4096;
    o.rank = r;
    o.world = world;
    o.rank_timeout = 30;
    return o;
  }
  std::vector<Output> outs() const {
    return {file_output(store_, at("f"), {source("source")}), directory_output(store_, at("d"), {source("source"), source("source")})};
  }
  void expect_done() const {
    EXPECT_EQ(get("f"), "head" + pattern(20000, 1));
    EXPECT_EQ(get("d/t0"), pattern(20000, 1));
    EXPECT_EQ(get("d/sub/t1"), pattern(20000, 1));
    EXPECT_EQ(names(), (std::vector<std::string>{"d", "f", "source"}));
  }
};

TEST_F(RanksTest, ARankThatComesLateFindsTheWorkDone) {
  std::thread other([&] { EXPECT_TRUE(run_job(outs(), rank(1, 2)).ok()); });
  const auto zero = run_job(outs(), rank(0, 2));
  other.join();
  ASSERT_TRUE(zero.ok()) << zero.error().message;
  expect_done();
  for (int again : {1, 0, 1}) {
    const auto r = run_job(outs(), rank(again, 2));
    EXPECT_TRUE(r.ok()) << r.error().message;
    expect_done();
  }
  ExecOptions forced = rank(1, 2);
  forced.force = true;
  EXPECT_TRUE(run_job(outs(), forced).ok());
  expect_done();
}

TEST_F(RanksTest, TwoRanksMaySpellTheirPathsDifferently) {
  fs::create_directory_symlink(dir_, at("link"));
  std::thread other([&] {
    const auto r = run_job({file_output(store_, at("link/f"), {source("./source")}), directory_output(store_, at("./d"), {source("link/source"), source("source")})},
                           rank(1, 2));
    EXPECT_TRUE(r.ok()) << r.error().message;
  });
  const auto zero = run_job(outs(), rank(0, 2));
  other.join();
  ASSERT_TRUE(zero.ok()) << zero.error().message;
  fs::remove(at("link"));
  expect_done();
}

TEST_F(RanksTest, RankZeroGivesUpWithAMessageAndTheOthersWorkIsKept) {
  ExecOptions o = rank(0, 3);
  o.rank_timeout = 0.2;
  auto zero = run_job(outs(), o);
  ASSERT_FALSE(zero.ok());
  EXPECT_NE(zero.error().message.find("rank 1, 2"), std::string::npos) << zero.error().message;
  EXPECT_NE(zero.error().message.find("--rank-timeout"), std::string::npos) << zero.error().message;
  for (int r : {1, 2}) EXPECT_TRUE(run_job(outs(), rank(r, 3)).ok());
  zero = run_job(outs(), o);
  ASSERT_TRUE(zero.ok()) << zero.error().message;
  EXPECT_GT(zero->resumed_bytes, 0u);
  expect_done();
}

// On the local file system and on one without exchange, locks and notes; with nothing under the names, and replacing older outputs.
TEST_F(RanksTest, RankZeroKilledAnywhereInTheCommitEndsWhenItIsStartedAgainAlone) {
  PlainStore plain(store_);
  for (Store* st : {&store_, static_cast<Store*>(&plain)})
    for (const bool force : {false, true}) {
      const auto on = [&](Store& s) {
        auto jobs = outs();
        for (auto& j : jobs) j.store = &s;
        return jobs;
      };
      const auto as = [&](int r) {
        ExecOptions o = rank(r, 2);
        o.tile_elements = 0;
        o.force = force;
        o.rank_timeout = 5;
        return o;
      };
      int kills = 0;
      for (uint64_t n = 0;; ++n) {
        for (const auto& name : names())
          if (name != "source") fs::remove_all(at(name));
        if (force) {
          ExecOptions other = small_job();
          other.tile_elements = 0;
          other.seed = 77;
          auto longer = outs();
          longer[1] = directory_output(store_, at("d"), {source("source"), source("source"), source("source")});
          ASSERT_TRUE(run_job(longer, other).ok());
        }
        ASSERT_TRUE(run_job(on(*st), as(1)).ok());
        bool killed = false;
        auto faulty = testing::dies_at(*st, n, &killed);
        (void)run_job(on(*faulty), as(0));
        if (!killed) break;
        ++kills;
        const auto again = run_job(on(*st), as(0));
        ASSERT_TRUE(again.ok()) << "call " << n << (force ? " --force: " : ": ") << again.error().message;
        expect_done();
        if (HasFailure()) FAIL() << "call " << n << (force ? " --force" : "") << " on " << (st == &plain ? "a plain store" : "the local store");
        // And the other one, restarted by whoever watches it. Where no notes are kept, --force cannot be told from a new start.
        if (st == &plain && force) continue;
        ASSERT_TRUE(run_job(on(*st), as(1)).ok()) << "call " << n;
        expect_done();
      }
      EXPECT_GT(kills, 20);
    }
}

// What a rank recorded counts only as long as the bytes are there: zeros were once published with the right root hash.
TEST_F(RanksTest, ADoneRankWhoseBytesAreGoneIsNotBelieved) {
  const auto clean = [&] {
    for (const auto& name : names())
      if (name != "source") fs::remove_all(at(name));
  };
  const auto temporary = [&](const char* suffix) {
    for (const auto& name : names())
      if (const auto t = parse_temporary(name); t && t->suffix == suffix) fs::remove_all(at(name));
  };
  // Its file was removed.
  ASSERT_TRUE(run_job(outs(), rank(1, 2)).ok());
  temporary(".part");
  auto zero = run_job(outs(), rank(0, 2));
  ASSERT_FALSE(zero.ok());
  EXPECT_NE(zero.error().message.find("--no-resume"), std::string::npos) << zero.error().message;
  EXPECT_FALSE(fs::exists(at("f")));
  // One process started over in between, and was stopped or refused.
  for (const bool refused : {false, true}) {
    clean();
    ASSERT_TRUE(run_job(outs(), rank(1, 2)).ok());
    CancelToken cancel;
    ExecOptions o = refused ? small_job() : stopping(&cancel);
    o.leaf_bytes = 4096;
    o.resume = false;
    if (refused) o.memory = 1;
    ASSERT_FALSE(run_job(outs(), o).ok());
    ExecOptions impatient = rank(0, 2);
    impatient.rank_timeout = 0.2;
    ASSERT_FALSE(run_job(outs(), impatient).ok()) << "rank 1 has to begin again";
    ASSERT_TRUE(run_job(outs(), rank(1, 2)).ok());
    ASSERT_TRUE(run_job(outs(), rank(0, 2)).ok());
    expect_done();
  }
}

TEST_F(RanksTest, AJobThatWasPublishingIsFinishedAtAnyWorldSize) {
  for (const int world : {1, 2, 3}) {
    for (const auto& name : names())
      if (name != "source") fs::remove_all(at(name));
    ASSERT_TRUE(run_job(outs(), rank(1, 2)).ok());
    FaultHooks hooks;
    bool killed = false;
    hooks.hook = [&](uint64_t, const char* op, const std::string&) -> std::string {
      killed |= std::string(op) == "rename";
      return killed ? "killed" : "";
    };
    auto faulty = make_fault_store(store_, hooks);
    auto jobs = outs();
    for (auto& j : jobs) j.store = faulty.get();
    ASSERT_FALSE(run_job(jobs, rank(0, 2)).ok());
    ExecOptions o = world > 1 ? rank(0, world) : small_job();
    o.leaf_bytes = 4096;
    o.rank_timeout = 1;
    const auto r = run_job(outs(), o);
    ASSERT_TRUE(r.ok()) << world << ": " << r.error().message;
    EXPECT_EQ(r->written_bytes, 0u);
    expect_done();
  }
}

TEST_F(RanksTest, ARankAtWorkKeepsItsTemporary) {
  const auto r1 = run_job(outs(), rank(1, 2));
  ASSERT_TRUE(r1.ok());
  const auto before = names();
  const auto held = store_.lock(temporary_path(at("f"), r1->key, ".journal.r1.lock"));
  ASSERT_TRUE(held.ok() && *held);
  ExecOptions other = small_job();
  other.leaf_bytes = 4096;
  for (const bool same : {false, true}) {
    if (same) other.resume = false;
    else other.seed = 5;
    const auto r = run_job(outs(), other);
    ASSERT_FALSE(r.ok());
    EXPECT_NE(r.error().message.find("still at work"), std::string::npos) << r.error().message;
    other.seed = 0;
  }
  for (const auto& name : before) EXPECT_TRUE(fs::exists(at(name))) << name;
}

TEST_F(RanksTest, AnEmptyDirectoryMadeForTheOutputIsNotItsWork) {
  fs::create_directory(at("d"));
  ASSERT_TRUE(run_job({outs()[1]}, rank(1, 2)).ok());
  ExecOptions o = rank(0, 2);
  o.rank_timeout = 1;
  const auto r = run_job({outs()[1]}, o);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(get("d/sub/t1"), pattern(20000, 1));
}

// What could be resumed is kept when another option is refused.
TEST_F(SourcesTest, ARefusedRerunThrowsNothingAway) {
  const auto out = [&] { return std::vector<Output>{directory_output(store_, at("d"), {source("source"), source("source")})}; };
  CancelToken cancel;
  ASSERT_FALSE(run_job(out(), stopping(&cancel)).ok());
  const auto left = names();
  ExecOptions o = small_job();
  o.memory = 1;
  EXPECT_FALSE(run_job(out(), o).ok());
  EXPECT_EQ(names(), left);
  o = small_job();
  fs::create_directory(at("d"));
  put("d/notes.txt", "x");
  o.force = true;
  EXPECT_FALSE(run_job(out(), o).ok());
  fs::remove_all(at("d"));
  EXPECT_EQ(names(), left);
  const auto r = run_job(out(), small_job());
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_GT(r->resumed_bytes, 0u);
}

TEST_F(SourcesTest, AnUnfinishedRunWhoseDirectoryWasMovedStopsNobody) {
  fs::create_directory(at("a"));
  CancelToken cancel;
  ASSERT_FALSE(run_job({file_output(store_, at("a/out"), {source("source")})}, stopping(&cancel)).ok());
  fs::rename(at("a"), at("b"));
  std::string notice;
  ExecOptions o = small_job();
  o.on_notice = [&](const std::string& n) { notice += n; };
  ASSERT_TRUE(run_job({file_output(store_, at("b/other"), {source("source")})}, o).ok());
  EXPECT_NE(notice.find("was to write 'out'"), std::string::npos) << notice;
  const auto r = run_job({file_output(store_, at("b/out"), {source("source")})}, small_job());
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_GT(r->resumed_bytes, 0u);
  EXPECT_EQ(names("b"), (std::vector<std::string>{"other", "out"}));
}

TEST_F(SourcesTest, TheSameBytesUnderOtherNamesLeaveNoTemporaryOfTheOldNames) {
  CancelToken cancel;
  ASSERT_FALSE(run_job({file_output(store_, at("first"), {source("source")}), file_output(store_, at("x"), {source("source")})}, stopping(&cancel)).ok());
  ASSERT_TRUE(run_job({file_output(store_, at("first"), {source("source")}), file_output(store_, at("y"), {source("source")})}, small_job()).ok());
  EXPECT_EQ(names(), (std::vector<std::string>{"first", "source", "y"}));
}

}  // namespace
}  // namespace ingot
