// Files that several checkpoints share: how many copies there are, what they count for, what a flipped bit in one does. And directories and clocks that change under a run.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "base/clock.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/saver.h"
#include "storage/forwarding.h"

namespace ingot::checkpoint {
namespace {

using namespace checkpoint::testing;

constexpr int64_t kBase = 100'000;  // elements of what does not change

TestState sharing_state(int64_t step) {
  TestState s = make_state(step, {{"model", {kBase, 3}}, {"optimizer", {20}}}, true);
  s.fill(0, 0, 1);  // still
  return s;
}

class SharedFiles : public ::testing::Test {
 protected:
  void SetUp() override { TearDown(); }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  // Those steps, by a process of its own.
  void run(const std::vector<int64_t>& steps, const Keep& keep, std::function<void(Saver&)> between = nullptr) {
    SaverOptions o;
    o.keep = keep;
    o.on_notice = [this](const std::string& s) { notices_.push_back(s); };
    auto saver = Saver::open(local_store(), dir_, o);
    ASSERT_TRUE(saver.ok()) << saver.error().message;
    for (const int64_t step : steps) {
      auto handle = (*saver)->save(sharing_state(step).snapshot);
      ASSERT_TRUE(handle.ok()) << handle.error().message;
      const Status done = (*handle)->wait();
      ASSERT_TRUE(done.ok()) << done.error().message;
      ASSERT_TRUE((*saver)->wait().ok());
      written_.push_back((*saver)->stats().written_bytes);
      if (between) between(**saver);
    }
    ASSERT_TRUE((*saver)->close().ok());
  }
  std::vector<Found> all() const { return *scan(local_store(), dir_); }
  std::string base_of(int64_t step) const { return fmt::format("{}/checkpoint-{}/model-00001-of-00002.safetensors", dir_, step); }
  uint64_t inode(int64_t step) const {
    struct stat st = {};
    EXPECT_EQ(::stat(base_of(step).c_str(), &st), 0) << step;
    return st.st_ino;
  }
  const std::string dir_ = ::testing::TempDir() + "ingot_shared_" + std::to_string(::getpid());
  std::vector<uint64_t> written_;
  std::vector<std::string> notices_;
};

Keep last(int n) {
  Keep k;
  k.last = n;
  return k;
}

TEST_F(SharedFiles, WhatDoesNotChangeIsWrittenOnce) {
  run({1, 2, 3, 4, 5, 6}, last(3));
  run({7, 8}, last(3));  // a process later it goes on so
  EXPECT_GT(written_[0], kBase * 4U);
  for (size_t i = 1; i < written_.size(); ++i) EXPECT_LT(written_[i], 10'000U) << i;
  EXPECT_EQ(inode(8), inode(6));
  const auto found = all();
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(sharing(found, 0), (std::vector<size_t>{1, 2}));
}

// The bytes are written again after some links, from memory: a bit that was lost goes on no further.
TEST_F(SharedFiles, NoChainOfLinksGoesOnForEver) {
  std::vector<int64_t> steps;
  for (int64_t s = 1; s <= 25; ++s) steps.push_back(s);
  run(steps, last(2));
  for (size_t i = 0; i < written_.size(); ++i) EXPECT_EQ(written_[i] > kBase * 4U, i % (kMostLinks + 1) == 0) << i;
  run({26}, last(2));
  const auto found = all();
  ASSERT_EQ(found.size(), 2U);
  for (const Found& f : found)
    for (const Object& o : f.manifest.objects) EXPECT_LE(o.generation, kMostLinks);
}

// With full copies between them a flipped bit leaves the other copy's checkpoints whole.
TEST_F(SharedFiles, AFlippedBitStaysInItsCopy) {
  Keep k = last(4);
  k.every_steps = 3;
  run({1, 2, 3, 4}, k);
  const auto found = all();
  ASSERT_EQ(found.size(), 4U);
  EXPECT_EQ(inode(4), inode(3));
  EXPECT_EQ(inode(2), inode(1));
  EXPECT_NE(inode(3), inode(2));
  std::fstream f(base_of(4), std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(5000);
  f.put('x');
  f.close();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(load_state(local_store(), found[i], sharing_state(found[i].step)).ok(), i >= 2) << found[i].step;
}

TEST_F(SharedFiles, CountOnceInAllThatIsKept) {
  run({1, 2, 3, 4, 5, 6}, {});
  const auto found = all();
  const uint64_t whole = found[0].bytes, disk = disk_bytes(found);
  EXPECT_GT(whole, kBase * 4U);
  EXPECT_LT(disk, whole * 3 / 2);  // six, and one copy of what is large
  uint64_t by_inode = 0;
  std::set<uint64_t> seen;
  for (const auto& e : std::filesystem::recursive_directory_iterator(dir_)) {
    struct stat st = {};
    if (e.path().parent_path() != dir_ && e.is_regular_file() && ::stat(e.path().c_str(), &st) == 0 && seen.insert(st.st_ino).second) by_inode += static_cast<uint64_t>(st.st_size);
  }
  EXPECT_EQ(disk, by_inode);
  Keep k;
  k.last = 6, k.max_bytes = whole * 5 / 2;  // all of them fit
  size_t kept = 0;
  for (const Decision& d : decide(found, k, {}, unix_time())) kept += d.keep;
  EXPECT_EQ(kept, 6U);
  k.max_bytes = whole / 2;  // the newest alone is more
  kept = 0;
  for (const Decision& d : decide(found, k, {}, unix_time())) kept += d.keep;
  EXPECT_EQ(kept, 1U);
}

class Crowded final : public ForwardingStore {
 public:
  Crowded() : ForwardingStore(local_store()) {}
  Result<uint64_t> free_space(const std::string&) override { return free; }
  uint64_t free = UINT64_MAX;
};

TEST_F(SharedFiles, WhatWouldBeLinkedNeedsNoRoom) {
  Crowded store;
  SaverOptions o;
  o.keep.last = 3;
  auto saver = Saver::open(store, dir_, o);
  ASSERT_TRUE(saver.ok());
  for (int64_t step = 1; step <= 3; ++step) ASSERT_TRUE((*(*saver)->save(sharing_state(step).snapshot))->wait().ok() && (*saver)->wait().ok());
  store.free = 100'000;  // less than what does not change
  auto linked = (*saver)->save(sharing_state(4).snapshot);
  ASSERT_TRUE(linked.ok()) << linked.error().message;
  EXPECT_TRUE((*linked)->wait().ok() && (*saver)->wait().ok());
  store.free = 100;
  EXPECT_FALSE((*saver)->save(sharing_state(5).snapshot).ok());
  EXPECT_TRUE((*saver)->close().ok());
}

TEST_F(SharedFiles, ADirectoryThatWasRemovedIsMadeAgain) {
  bool removed = false;
  run({1, 2, 3, 4}, last(3), [&](Saver& s) {
    if (s.stats().newest != 2 || removed) return;
    removed = true;
    std::filesystem::remove_all(dir_);
  });
  std::vector<int64_t> steps;
  for (const Found& f : all()) {
    steps.push_back(f.step);
    EXPECT_TRUE(load_state(local_store(), f, sharing_state(f.step)).ok());
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{4, 3}));
  ASSERT_EQ(notices_.size(), 1U);
  EXPECT_NE(notices_[0].find("was removed while this process saves into it"), std::string::npos) << notices_[0];
  EXPECT_EQ(read_lease(local_store(), dir_).epoch, 1);  // a zombie still finds that it was replaced
}

TEST_F(SharedFiles, ACheckpointThatWasRemovedByHandIsNoSource) {
  run({1, 2, 3, 4}, last(3), [&](Saver& s) {
    if (s.stats().newest == 3) std::filesystem::remove_all(dir_ + "/checkpoint-2");
  });
  EXPECT_TRUE(load_state(local_store(), all()[0], sharing_state(4)).ok());
}

TEST_F(SharedFiles, WhoseMountIsGoneIsNotMadeAgain) {
  SaverOptions o;
  o.still_there = [] { return Status(failed("it is not mounted there any more")); };
  auto saver = Saver::open(local_store(), dir_, o);
  ASSERT_TRUE(saver.ok());
  std::filesystem::remove_all(dir_);
  for (int i = 0; i < 2; ++i) {
    auto handle = (*saver)->save(sharing_state(1).snapshot);
    ASSERT_FALSE(handle.ok());
    EXPECT_NE(handle.error().message.find("not mounted"), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(dir_));
}

// The time of day is for people: nobody is replaced, removed or kept waiting for ever by a clock that was set.
TEST_F(SharedFiles, AClockThatWasSet) {
  Lease future;
  future.epoch = 4, future.owner = "x", future.time = unix_time() + 1e6;
  ASSERT_TRUE(put_lease(local_store(), dir_, future).ok());
  SaveOptions o;
  o.epoch = 4, o.time = unix_time() + 1e6;  // saved when the clock was ahead
  ASSERT_TRUE(save(local_store(), dir_, sharing_state(7).snapshot, o).ok());
  Keep k = last(1);
  k.max_age = 10;
  run({8}, k);
  const auto found = all();
  ASSERT_EQ(found.size(), 1U);  // by epoch and step, not by time
  EXPECT_EQ(found[0].step, 8);
  EXPECT_EQ(found[0].manifest.epoch, 5);
  // Ahead: of no great age. Behind: nothing but what `last` wants goes.
  std::vector<Found> rows(3);
  for (size_t i = 0; i < 3; ++i) rows[i].step = 30 - static_cast<int64_t>(i) * 10, rows[i].state = State::kWhole, rows[i].manifest.time = i == 1 ? 5000 : 990;
  Keep age;
  age.max_age = 100;
  for (const Decision& d : decide(rows, age, {}, 1000)) EXPECT_TRUE(d.keep) << d.step;
  rows[2].manifest.time = 800;
  const auto decisions = decide(rows, age, {}, 1000);
  EXPECT_TRUE(decisions[0].keep && decisions[1].keep && !decisions[2].keep);
  // What was saved by a clock that was ahead does not hold back what came before for longer than this process has waited.
  rows[1].uploaded = true;
  const auto settled = decide(rows, last(1), {std::nullopt, 300}, 1000);
  EXPECT_TRUE(settled[0].keep && settled[1].keep && !settled[2].keep);
}

}  // namespace
}  // namespace ingot::checkpoint
