// The conformance test of the spine: the toys written through every kind of sink at many thread counts, tile sizes, ranks, and with a
// kill at every journal write, give the same bytes.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "exec/conformance_toys.h"

namespace ingot {
namespace {

using namespace testing;

TEST(Conformance, SameBytesForEverySinkThreadCountAndTile) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks)
    for (int threads : {1, 2, 7})
      for (int64_t tile : {1, 24, 100, 1 << 20}) {
        auto store = make_memory_store(kind.caps);
        auto journal = make_memory_store();
        ExecOptions o = small_options(threads, tile);
        o.journal_store = journal.get();
        o.journal_path = "journal";
        auto r = run_job(jobs(toys, *store), o);
        ASSERT_TRUE(r.ok()) << kind.name << " threads " << threads << " tile " << tile << ": " << r.error().message;
        ASSERT_EQ(contents(*store), want) << kind.name << " threads " << threads << " tile " << tile;
        EXPECT_FALSE(is_there(*journal, "journal"));
      }
}

TEST(Conformance, SameBytesWithTwoRanks) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks)
    for (int64_t tile : {24, 300}) {
      auto store = make_memory_store(kind.caps);
      auto journal = make_memory_store();
      std::vector<std::string> errors(2);
      std::vector<std::thread> ranks;
      uint64_t tasks[2] = {0, 0};
      for (int rank = 0; rank < 2; ++rank)
        ranks.emplace_back([&, rank] {
          ExecOptions o = small_options(2, tile);
          o.journal_store = journal.get();
          o.journal_path = "journal";
          o.rank = rank;
          o.world = 2;
          auto r = run_job(jobs(toys, *store), o);
          if (!r.ok()) errors[rank] = r.error().message;
          else tasks[rank] = r->tasks;
        });
      for (auto& t : ranks) t.join();
      ASSERT_EQ(errors[0] + errors[1], "") << kind.name;
      ASSERT_EQ(contents(*store), want) << kind.name << " tile " << tile;
      EXPECT_GT(tasks[0], 0u);
      EXPECT_GT(tasks[1], 0u) << kind.name;
    }
}

// Kills the job at its n-th write of the journal, for every n, and runs it again.
TEST(Conformance, KillAtEveryJournalWriteThenResume) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks) {
    uint64_t kills = 0;
    bool some_resumed = false;
    for (uint64_t n = 0;; ++n) {
      auto store = make_memory_store(kind.caps);
      auto journal = make_memory_store();
      KilledAtJournalWrite faulty(*store, *journal, n);
      ExecOptions o = small_options(n % 2 ? 2 : 1, n % 3 ? 50 : 200);
      o.journal_store = faulty.journal.get();
      o.journal_path = "journal";
      auto r = run_job(jobs(toys, *faulty.store), o);
      if (!faulty.killed) {
        ASSERT_TRUE(r.ok()) << r.error().message;
        break;
      }
      ++kills;
      ASSERT_FALSE(r.ok());
      o.journal_store = journal.get();
      auto again = run_job(jobs(toys, *store), o);
      ASSERT_TRUE(again.ok()) << kind.name << " kill " << n << ": " << again.error().message;
      ASSERT_EQ(contents(*store), want) << kind.name << " kill " << n;
      some_resumed |= again->resumed_bytes * 2 > want.size();
    }
    EXPECT_GT(kills, 50u) << kind.name;
    EXPECT_TRUE(some_resumed) << kind.name << ": late kills must leave most of the work done";
  }
}

// Not only the journal: a crash at every call that changes anything, the rename and the removals too.
TEST(Conformance, CrashAtEveryStoreCallThenResume) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks) {
    for (uint64_t n = 0;; ++n) {
      auto store = make_memory_store(kind.caps);
      auto journal = make_memory_store();
      std::mutex mutex;
      uint64_t calls = 0;
      std::atomic<bool> killed{false};
      FaultHooks hooks;
      hooks.hook = [&](uint64_t, const char*, const std::string&) -> std::string {
        std::lock_guard lock(mutex);
        if (calls++ == n) killed = true;
        return killed ? "killed" : "";
      };
      auto faulty_journal = make_fault_store(*journal, hooks);
      auto faulty = make_fault_store(*store, hooks);
      ExecOptions o = small_options(2, 200);
      o.journal_store = faulty_journal.get();
      o.journal_path = "journal";
      auto r = run_job(jobs(toys, *faulty), o);
      if (!killed) {
        ASSERT_TRUE(r.ok()) << r.error().message;
        break;
      }
      o.journal_store = journal.get();
      auto again = run_job(jobs(toys, *store), o);
      // Once everything is renamed and only the journal's removal was left, the outputs are there.
      ASSERT_TRUE(again.ok() || contents(*store) == want) << kind.name << " crash " << n << ": " << again.error().message;
      ASSERT_EQ(contents(*store), want) << kind.name << " crash " << n;
    }
  }
}

TEST(Conformance, KilledRankIsResumedWhileTheOtherWaits) {
  const Toys toys;
  const std::string want = reference(toys);
  for (uint64_t n : {0, 1, 5, 12, 20}) {
    auto store = make_memory_store();
    auto journal = make_memory_store();
    auto options = [&](int rank, Store* j) {
      ExecOptions o = small_options(2, 100);
      o.journal_store = j;
      o.journal_path = "journal";
      o.rank = rank;
      o.world = 2;
      return o;
    };
    std::string error0;
    std::thread rank0([&] {
      auto r = run_job(jobs(toys, *store), options(0, journal.get()));
      if (!r.ok()) error0 = r.error().message;
    });
    uint64_t writes = 0;
    FaultHooks hooks;
    hooks.hook = [&](uint64_t, const char* op, const std::string&) -> std::string {
      return std::string(op) == "write" && writes++ >= n ? "killed" : "";
    };
    auto faulty = make_fault_store(*journal, hooks);
    auto r = run_job(jobs(toys, *store), options(1, faulty.get()));
    if (!r.ok()) r = run_job(jobs(toys, *store), options(1, journal.get()));
    rank0.join();
    ASSERT_TRUE(r.ok()) << r.error().message;
    ASSERT_EQ(error0, "");
    ASSERT_EQ(contents(*store), want);
  }
}

}  // namespace
}  // namespace ingot
