// A loss of power at every operation of a run that saves, replaces, links and prunes, with every part of what was not synced: what had been acknowledged is there.
#include <gtest/gtest.h>

#include <cstdlib>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/crash_testing.h"
#include "checkpoint/saver.h"

namespace ingot::checkpoint {
namespace {

using namespace checkpoint::testing;

struct Acknowledged {
  size_t at;  // operations by then
  int64_t step;
};

struct Training {
  History history;
  std::unique_ptr<Store> beneath = make_memory_store();
  RecordingStore store{*beneath, history};
  std::vector<Acknowledged> acknowledged;
  std::map<int64_t, std::vector<std::vector<std::vector<std::vector<float>>>>> made;  // by step: each content that it had
  TestState like;

  // A process that saves those steps; the first tensor of the model is still.
  void process(const std::vector<int64_t>& steps, int keep, float salt) {
    SaverOptions o;
    o.keep.last = keep;
    o.threads = 1;
    auto saver = Saver::open(store, "run", o);
    ASSERT_TRUE(saver.ok()) << saver.error().message;
    for (const int64_t step : steps) {
      TestState s = make_state(step, {{"model", {50, 3}}, {"optimizer", {20}}}, true);
      s.fill(0, 0, 1);  // still
      s.fill(1, 0, static_cast<float>(step) + salt);
      made[step].push_back(s.values);
      auto handle = (*saver)->save(s.snapshot);
      ASSERT_TRUE(handle.ok()) << handle.error().message;
      Status done = (*handle)->wait();
      ASSERT_TRUE(done.ok()) << done.error().message;
      acknowledged.push_back({history.size(), step});
      like = std::move(s);
    }
    ASSERT_TRUE((*saver)->close().ok());
  }

  // kFailed: what is whole is not what was saved, or what was acknowledged is not there.
  Status check(Store& s, size_t end) const {
    int64_t least = -1;
    for (const auto& a : acknowledged)
      if (a.at <= end) least = a.step;
    INGOT_ASSIGN(const auto all, scan(s, "run"));
    for (const Found& f : all) {
      if (f.state != State::kWhole) continue;
      auto values = load_state(s, f, like);
      if (!values.ok()) continue;  // a resume finds that, and goes on to the next
      const auto& allowed = made.at(f.step);
      if (std::find(allowed.begin(), allowed.end(), *values) == allowed.end()) return failed("step {} has bytes that nobody saved", f.step);
      // The newest that loads: not older than what was acknowledged (or of a later process).
      if (least >= 0 && f.step < least && f.manifest.epoch <= 1) return failed("step {} is the newest, and {} was acknowledged", f.step, least);
      return {};
    }
    return least < 0 ? Status() : Status(failed("nothing loads, and step {} was acknowledged", least));
  }
};

Status lose_power_everywhere(const Training& run, size_t most_subsets, uint64_t seed) {
  std::mt19937_64 random(seed);
  uint64_t states = 0, torn = 0, widest = 0;
  for (size_t end = 0; end <= run.history.size(); ++end) {
    const auto pending = run.history.pending(end);
    widest = std::max<uint64_t>(widest, pending.size());
    const bool every = pending.size() <= 10 && (uint64_t{1} << pending.size()) <= most_subsets;
    const uint64_t n = every ? uint64_t{1} << pending.size() : most_subsets;
    for (uint64_t k = 0; k < n; ++k) {
      // All lost, none lost, and others.
      const uint64_t bits = every ? k : k == 0 ? 0 : k == 1 ? ~uint64_t{0} : random();
      std::set<size_t> lost;
      for (size_t i = 0; i < pending.size(); ++i)
        if (bits >> (i % 64) & 1) lost.insert(pending[i]);
      const size_t half = !pending.empty() && k % 3 == 2 ? pending.back() : SIZE_MAX;
      torn += half != SIZE_MAX;
      ++states;
      const auto left = run.history.after(end, lost, half);
      if (Status s = run.check(*left, end); !s.ok())
        return failed("before operation {} of {}, {} of {} lost: {}", end, run.history.size(), lost.size(), pending.size(), s.error().message);
    }
  }
  std::printf("%zu operations, %llu states after a loss of power, %llu with a torn write, up to %llu operations pending\n", run.history.size(), static_cast<unsigned long long>(states),
              static_cast<unsigned long long>(torn), static_cast<unsigned long long>(widest));
  EXPECT_GT(states, run.history.size());
  return {};
}

size_t subsets() {
  const char* n = std::getenv("INGOT_CRASH_SUBSETS");
  return n ? std::strtoull(n, nullptr, 10) : 48;
}

TEST(CheckpointCrash, SaveSaveSaveAndPrune) {
  Training run;
  run.process({1, 2, 3, 4}, 2, 0);
  const Status s = lose_power_everywhere(run, subsets(), 1);
  EXPECT_TRUE(s.ok()) << s.error().message;
}

TEST(CheckpointCrash, AResumedRunSavesTheSameStepsAgain) {
  Training run;
  run.process({1, 2, 3}, 3, 0);
  run.process({2, 3, 4}, 3, 0.5F);
  const Status s = lose_power_everywhere(run, subsets(), 2);
  EXPECT_TRUE(s.ok()) << s.error().message;
}

// What these tests are worth: where files, or directories, are not synced, something acknowledged is lost, and found to be.
TEST(CheckpointCrash, AMissingSyncIsFound) {
  for (const Operation::Kind forgotten : {Operation::Kind::kSync, Operation::Kind::kSyncDirectory}) {
    Training run;
    run.process({1, 2, 3}, 2, 0);
    run.history.forget(forgotten);
    EXPECT_FALSE(lose_power_everywhere(run, subsets(), 3).ok());
  }
}

}  // namespace
}  // namespace ingot::checkpoint
