// Write and publish apart, bytes that are known last, and digests: with kills at every journal write.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "exec/conformance_toys.h"
#include "exec/exec_testing.h"
#include "exec/load.h"
#include "commit/names.h"
#include "commit/verify.h"

namespace ingot {
namespace {

using namespace testing;

// Two ranks with different artifacts for one directory: each a file of its own, and one that both write alike.
std::vector<Output> rank_output(Store& store, int rank, const std::string& path = "out") {
  Output o;
  o.artifact.tensors = {{"x", eager({30, 20}, 10 + rank)}, {"common", eager({10, 10}, 9)}};
  o.layout = [rank](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    Layout l;
    l.files.push_back({"rank-" + std::to_string(rank), bytes_of(specs[0].second) + 4, {{0, "rank"}}});
    l.files.push_back({"common", bytes_of(specs[1].second), {}});
    l.tensors = {{0, 4}, {1, 0}};
    return l;
  };
  o.store = &store;
  o.path = path;
  o.directory = true;
  return {o};
}

ExecOptions rank_options(int rank, Store* journal) {
  ExecOptions o = small_options(2, 50);
  o.rank = rank;
  o.world = 2;
  o.key = "0123456789abcdef0123456789abcdef";
  o.journal_store = journal;
  o.journal_path = "journal";
  return o;
}

std::string whole_directory(Store& s, const std::string& dir) {
  const auto names = list_tree(s, dir, nullptr);
  if (!names.ok()) return "missing: " + names.error().message;
  std::string all;
  for (const auto& n : *names) {
    const auto text = read_text(s, join_path(dir, n));
    all += n + "=" + (text.ok() ? *text : "missing");
  }
  return all;
}

TEST(Publish, RanksWithDifferentArtifactsFillOneDirectory) {
  for (const auto& kind : kSinks) {
    auto store = make_memory_store(kind.caps), journal = make_memory_store();
    std::vector<Written> all;
    for (int rank : {1, 0}) {
      auto w = write(rank_output(*store, rank), rank_options(rank, journal.get()));
      ASSERT_TRUE(w.ok()) << kind.name << ": " << w.error().message;
      EXPECT_FALSE(is_there(*store, "out")) << kind.name;
      auto passed = Written::parse(w->serialize());
      ASSERT_TRUE(passed.ok());
      all.push_back(*passed);
    }
    for (int again = 0; again < 2; ++again) {
      const Status s = publish(rank_output(*store, 0), all, rank_options(0, journal.get()));
      ASSERT_TRUE(s.ok() || !kind.caps.rename) << kind.name << ": " << s.error().message;
      EXPECT_EQ(list_tree(*store, "out", nullptr)->size(), 3u);
    }
    EXPECT_EQ(*read_text(*store, "out/rank-1")->substr(0, 4).data(), 'r');
    EXPECT_FALSE(is_there(*journal, "journal"));
  }
}

TEST(Publish, WhatIsMissingOrContradictsIsRefused) {
  auto store = make_memory_store(), journal = make_memory_store();
  auto a = *write(rank_output(*store, 0), rank_options(0, journal.get()));
  auto b = *write(rank_output(*store, 1), rank_options(1, journal.get()));
  Written c = b;
  c.files[1].leaves.begin()->second.lo ^= 1;
  auto s = publish(rank_output(*store, 0), {a, c}, rank_options(0, journal.get()));
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("'common' than another rank"), std::string::npos) << s.error().message;
  c = b;
  c.files[0].leaves.erase(c.files[0].leaves.begin());
  s = publish(rank_output(*store, 0), {a, c}, rank_options(0, journal.get()));
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("no rank has written all of"), std::string::npos) << s.error().message;
  c.key = "other";
  s = publish(rank_output(*store, 0), {a, c}, rank_options(0, journal.get()));
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("another job than rank 0"), std::string::npos) << s.error().message;
  std::string bytes = b.serialize();
  for (size_t n : {size_t{0}, size_t{10}, bytes.size() / 2, bytes.size() - 1}) EXPECT_FALSE(Written::parse(std::string_view(bytes).substr(0, n)).ok());
  bytes[bytes.size() / 2] ^= 1;
  EXPECT_FALSE(Written::parse(bytes).ok());
  EXPECT_FALSE(is_there(*store, "out"));
  EXPECT_TRUE(publish(rank_output(*store, 0), {a, b}, rank_options(0, journal.get())).ok());
}

// The publisher is killed at its n-th call, for every n; publishing again ends it, and again does nothing.
TEST(Publish, KilledAnywhereItIsRepeatedToTheEnd) {
  auto reference = make_memory_store(), reference_journal = make_memory_store();
  const auto all_of = [](Store& s, Store* j) {
    return std::vector<Written>{*write(rank_output(s, 0), rank_options(0, j)), *write(rank_output(s, 1), rank_options(1, j))};
  };
  ASSERT_TRUE(publish(rank_output(*reference, 0), all_of(*reference, reference_journal.get()), rank_options(0, reference_journal.get())).ok());
  const std::string want = whole_directory(*reference, "out");
  for (bool replace : {false, true})
    for (uint64_t n = 0;; ++n) {
      auto store = make_memory_store(), journal = make_memory_store();
      if (replace) {
        ASSERT_TRUE(store->make_directory("out").ok());
        for (const char* name : {"out/rank-0", "out/old"}) ASSERT_TRUE((*store->create(name, 3, false))->write(0, as_bytes(std::string_view("old"))).ok());
      }
      const auto outputs = [&](Store& s, int rank = 0) {
        auto o = rank_output(s, rank);
        o[0].older_name = [](const std::string& name) { return name == "old" || name.rfind("rank-", 0) == 0; };
        return o;
      };
      ExecOptions o = rank_options(0, journal.get());
      o.force = replace;
      std::vector<Written> all;
      for (int r : {0, 1}) {
        ExecOptions w = rank_options(r, journal.get());
        w.force = replace;
        auto written = write(outputs(*store, r), w);
        ASSERT_TRUE(written.ok()) << written.error().message;
        all.push_back(*written);
      }
      bool killed = false;
      FaultHooks hooks;
      uint64_t calls = 0;
      hooks.hook = [&](uint64_t, const char*, const std::string&) -> std::string { return (killed |= calls++ >= n) ? "killed" : ""; };
      auto faulty = make_fault_store(*store, hooks), faulty_journal = make_fault_store(*journal, hooks);
      o.journal_store = faulty_journal.get();
      const Status first = publish(outputs(*faulty), all, o);
      if (!killed) {
        ASSERT_TRUE(first.ok()) << first.error().message;
        break;
      }
      o.journal_store = journal.get();
      const Status again = publish(outputs(*store), all, o);
      ASSERT_TRUE(again.ok()) << "kill " << n << ": " << again.error().message;
      ASSERT_EQ(whole_directory(*store, "out"), want) << "kill " << n;
      EXPECT_EQ(store->list(".")->size(), 1u) << "kill " << n;
    }
}

TEST(Late, DigestsOfTheTensorsStandInTheFile) {
  const Toys toys;
  for (const auto& kind : kSinks)
    for (bool at_end : {true, false}) {
      auto store = make_memory_store(kind.caps), journal = make_memory_store(), digests = make_digest_store();
      ExecOptions o = small_options(2, 100);
      o.journal_store = journal.get();
      o.journal_path = "journal";
      const auto r = run_job(with_digests(toys, *store, *digests, at_end), o);
      if (kind.caps.mode == WriteMode::kSequential && !at_end) {
        ASSERT_FALSE(r.ok());
        EXPECT_NE(r.error().message.find("takes a file's bytes in order"), std::string::npos) << r.error().message;
        continue;
      }
      ASSERT_TRUE(r.ok()) << kind.name << ": " << r.error().message;
      const std::string text = *read_text(*store, "out.toy");
      const size_t at = at_end ? text.size() - 32 * toys.first.tensors.size() : 64;
      ASSERT_EQ(r->digests[1].size(), toys.first.tensors.size());
      for (size_t i = 0; i < toys.first.tensors.size(); ++i) {
        EXPECT_EQ(text.substr(at + 32 * i, 32), r->digests[1][i]);
        // The root over leaves of 256 bytes of what the oracle gives.
        const auto bytes = *evaluate(toys.first.tensors[i].node);
        std::vector<std::optional<Hash128>> leaves;
        for (size_t b = 0; b < bytes.size(); b += 256) leaves.push_back(hash128(ByteView(bytes).subspan(b, std::min<size_t>(256, bytes.size() - b))));
        EXPECT_EQ(r->digests[1][i], root_of({{"", leaves}})) << toys.first.tensors[i].name;
      }
    }
}

TEST(Late, KilledAtEveryJournalWriteItIsResumedAndDigestsAreTrusted) {
  const Toys toys;
  auto reference = make_memory_store(), digests = make_digest_store();
  ASSERT_TRUE(run_job(with_digests(toys, *reference, *digests, false), small_options(2, 100)).ok());
  const std::string want = *read_text(*reference, "out.toy");
  for (const auto& kind : {kSinks[0], kSinks[2]}) {
    uint64_t most_resumed = 0;
    for (uint64_t n = 0;; ++n) {
      auto store = make_memory_store(kind.caps), journal = make_memory_store();
      KilledAtJournalWrite faulty(*store, *journal, n);
      ExecOptions o = small_options(1 + n % 2, 100);
      o.journal_store = faulty.journal.get();
      o.journal_path = "journal";
      (void)run_job(with_digests(toys, *faulty.store, *digests, false), o);
      if (!faulty.killed) break;
      o.journal_store = journal.get();
      const auto again = run_job(with_digests(toys, *store, *digests, false), o);
      ASSERT_TRUE(again.ok()) << kind.name << " kill " << n << ": " << again.error().message;
      ASSERT_EQ(*read_text(*store, "out.toy"), want) << kind.name << " kill " << n;
      most_resumed = std::max(most_resumed, again->resumed_bytes);
    }
    EXPECT_GT(most_resumed, want.size()) << kind.name << ": of the output and the digests together nearly all is taken over";
  }
}

TEST(Late, TwoRanksMakeTheSameFile) {
  const Toys toys;
  for (const auto& kind : {kSinks[0], kSinks[2]}) {
    auto reference = make_memory_store(kind.caps), reference_journal = make_memory_store(), digests = make_digest_store();
    ExecOptions one = small_options(2, 100);
    one.journal_store = reference_journal.get();
    one.journal_path = "journal";
    ASSERT_TRUE(run_job(with_digests(toys, *reference, *digests, false), one).ok());
    auto store = make_memory_store(kind.caps), journal = make_memory_store();
    std::string errors[2];
    std::vector<std::thread> ranks;
    for (int rank : {0, 1})
      ranks.emplace_back([&, rank] {
        ExecOptions o = small_options(2, 100);
        o.journal_store = journal.get();
        o.journal_path = "journal";
        o.rank = rank;
        o.world = 2;
        const auto r = run_job(with_digests(toys, *store, *digests, false), o);
        if (!r.ok()) errors[rank] = r.error().message;
      });
    for (auto& t : ranks) t.join();
    ASSERT_EQ(errors[0] + errors[1], "") << kind.name;
    EXPECT_EQ(*read_text(*store, "out.toy"), *read_text(*reference, "out.toy")) << kind.name;
  }
}

// What data decide is decided between two jobs: the first keeps its facts, so that after a kill they are not made again.
TEST(Load, ADecisionBetweenTwoJobs) {
  const Toys toys;
  std::atomic<uint64_t> reads{0};
  FaultHooks hooks;
  auto journal = make_memory_store();
  const std::vector<LazyTensor> facts = {{"means", mean_abs({toys.x, toys.y})}, {"threshold", std::make_shared<Threshold>(toys.big)}};
  std::vector<float> means(2);
  std::vector<std::byte> big(bytes_of(facts[1].spec()));
  ExecOptions o = small_options(2, 100);
  o.journal_store = journal.get();
  o.journal_path = "facts";
  const std::vector<MutByteView> into = {{reinterpret_cast<std::byte*>(means.data()), 8}, big};
  ASSERT_TRUE(load(facts, into, o).ok());
  const auto want = *evaluate(facts[0].node);
  EXPECT_EQ(std::memcmp(means.data(), want.data(), 8), 0);
  EXPECT_TRUE(big == *evaluate(facts[1].node));
  // Again: the facts come from the journal (a record that lies shows it).
  auto text = *read_text(*journal, "facts.facts");
  ASSERT_GT(text.size(), 0u);
  std::vector<float> second(2);
  ASSERT_TRUE(load({facts[0]}, {{reinterpret_cast<std::byte*>(second.data()), 8}}, o).ok());
  EXPECT_EQ(second, means);
  EXPECT_EQ(read_text(*journal, "facts.facts")->size(), text.size()) << "no fact was made again";
  // The decision: as many rows as ten times the mean says.
  const auto rows = std::min<int64_t>(37, static_cast<int64_t>(10 * means[0]));
  ASSERT_GT(rows, 0);
  Artifact decided;
  decided.tensors = {{"x", eager({rows, 24}, 1)}};
  auto store = make_memory_store();
  ASSERT_TRUE(run_job({{{store.get(), "out", false}, decided, toy_layout}}, small_options(2, 100)).ok());
  EXPECT_EQ(read_text(*store, "out")->size(), 64 + align_up(rows * 96 + 4, 64) + 4 + 3);
}

TEST(Load, TheSameAsTheOracleAtAnyBudget) {
  const Toys toys;
  for (const Artifact* a : {&toys.first, &toys.second})
    for (int threads : {1, 3})
      for (int64_t tile : {0, 24, 100}) {
        std::vector<std::vector<std::byte>> bytes;
        std::vector<MutByteView> into;
        for (const auto& t : a->tensors) bytes.emplace_back(bytes_of(t.spec()));
        for (auto& b : bytes) into.emplace_back(b);
        const Status s = load(a->tensors, into, small_options(threads, tile));
        ASSERT_TRUE(s.ok()) << s.error().message;
        for (size_t i = 0; i < bytes.size(); ++i) EXPECT_TRUE(bytes[i] == *evaluate(a->tensors[i].node)) << a->tensors[i].name;
      }
  std::vector<std::byte> small(4);
  EXPECT_FALSE(load({{"x", toys.x}}, {small}, small_options(1, 0)).ok());
}

// The job's own lock was taken for another rank's.
TEST(Late, DigestsAloneAreMadeAnewWithNoResume) {
  const Toys toys;
  auto digests = make_digest_store(), journal = make_memory_store();
  auto outputs = with_digests(toys, *digests, *digests, true);
  outputs.erase(outputs.begin());
  ExecOptions o = small_options(2, 100);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  o.resume = false;
  for (int again = 0; again < 2; ++again) {
    const auto r = run_job(outputs, o);
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->digests[0].size(), toys.first.tensors.size());
  }
  // The cut-short journal of a first run is no hindrance either.
  ASSERT_TRUE((*journal->create("journal", 3, false))->write(0, as_bytes(std::string_view("???"))).ok());
  ASSERT_TRUE(run_job(outputs, o).ok());
}

}  // namespace
}  // namespace ingot
