#include "checkpoint/save.h"
#include "base/threads.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/keep.h"
#include "checkpoint/saver.h"
#include "storage/mount.h"

namespace ingot::checkpoint {
namespace {

using testing::load_state;
using testing::make_state;
using testing::TestState;

class Checkpoints : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(dir_); }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  // Its newest whole one.
  Found newest(Store& store) const {
    auto all = scan(store, dir_);
    EXPECT_TRUE(all.ok()) << all.error().message;
    for (const Found& f : all.ok() ? *all : std::vector<Found>())
      if (f.state == State::kWhole) return f;
    return {};
  }
  std::string dir_ = ::testing::TempDir() + "ingot_checkpoints_" + std::to_string(::getpid());
  Store& store_ = local_store();
};

const std::vector<std::pair<std::string, std::vector<int64_t>>> kGroups = {{"model", {300'000, 1, 0, 70'000}}, {"optimizer", {300'001, 5}}};

TEST_F(Checkpoints, ComeBackBitForBit) {
  for (const uint64_t shard : {uint64_t{5'000'000'000}, uint64_t{300'000}}) {
    const TestState s = make_state(7, kGroups, true);
    SaveOptions o;
    o.max_shard = shard;
    auto saved = save(store_, dir_, s.snapshot, o);
    ASSERT_TRUE(saved.ok()) << saved.error().message;
    const Found f = newest(store_);
    ASSERT_EQ(f.step, 7);
    EXPECT_TRUE(verify(store_, f, 2).ok());
    EXPECT_EQ(manifest_text(f.manifest), manifest_text(saved->manifest));
    EXPECT_TRUE(f.manifest.find("model.safetensors.index.json"));
    auto back = load_state(store_, f, s);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(*back, s.values);
  }
}

// PEFT looks for its adapter in one file of that name.
TEST_F(Checkpoints, AnAdapterIsOneFile) {
  TestState s = make_state(3, {{"adapter_model", {300'000, 70'000}}, {"adapter_model.other", {300'000, 70'000}}, {"adapter_model_of_mine", {300'000, 70'000}}});
  for (Group& g : s.snapshot.groups) g.tensors[1].still = true;
  SaveOptions o;
  o.max_shard = 300'000;
  auto saved = save(store_, dir_, s.snapshot, o);
  ASSERT_TRUE(saved.ok()) << saved.error().message;
  EXPECT_TRUE(saved->manifest.find("adapter_model.safetensors"));
  EXPECT_TRUE(saved->manifest.find("adapter_model.other.safetensors"));
  EXPECT_FALSE(saved->manifest.find("adapter_model_of_mine.safetensors"));
  auto back = load_state(store_, newest(store_), s);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, s.values);
}

TEST_F(Checkpoints, CompressedOnesComeBackBitForBit) {
  TestState s = make_state(1, {{"model", {300'000}}, {"optimizer", {300'001, 5, 600'000}}});
  std::fill(s.values[1][2].begin(), s.values[1][2].end(), 1.0F);
  SaveOptions o;
  o.compress = [](const std::string& group) { return group != "model"; };
  s.snapshot.groups[1].tensors[0].still = true;
  auto first = save(store_, dir_, s.snapshot, o);
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_LT(first->written, first->manifest.bytes() - 2'300'000);
  // What is still is linked as it lies there; a plain one would be another file.
  s.snapshot.step = 2;
  o.previous = &first->manifest;
  auto second = save(store_, dir_, s.snapshot, o);
  ASSERT_TRUE(second.ok()) << second.error().message;
  const Found f = newest(store_);
  ASSERT_EQ(f.step, 2) << f.reason;
  EXPECT_EQ(manifest_text(f.manifest), manifest_text(second->manifest));
  EXPECT_FALSE(f.manifest.find("model.safetensors")->frames);
  const Object* linked = f.manifest.find("optimizer-00001-of-00002.safetensors");
  ASSERT_TRUE(linked && linked->frames && linked->same_as == 1);
  EXPECT_EQ(std::filesystem::hard_link_count(f.path + "/" + linked->file()), 2U);
  EXPECT_FALSE(std::filesystem::exists(f.path + "/" + linked->name));
  EXPECT_TRUE(verify(store_, f, 2).ok());
  auto back = load_state(store_, f, s);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, s.values);
  std::filesystem::resize_file(f.path + "/" + linked->file(), *linked->frames - 1);
  EXPECT_EQ(newest(store_).step, 0);
}

TEST_F(Checkpoints, CompressedOnesOnAMountedBucketToo) {
  const auto mount = make_mount_store(store_);
  const TestState s = make_state(1, {{"model", {3}}, {"optimizer", {300'001, 5, 7, 600'000, 1}}});
  SaveOptions o;
  o.compress = [](const std::string& group) { return group != "model"; };
  auto saved = save(*mount, dir_, s.snapshot, o);
  ASSERT_TRUE(saved.ok()) << saved.error().message;
  const Found f = newest(*mount);
  ASSERT_EQ(f.step, 1) << f.reason;
  EXPECT_TRUE(std::filesystem::exists(f.path + "/optimizer.safetensors.frames"));
  auto back = load_state(*mount, f, s);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, s.values);
}

TEST_F(Checkpoints, EveryFlippedByteIsFound) {
  const TestState s = make_state(7, {{"model", {40, 3}}, {"optimizer", {17}}, {"packed", {400}}});
  SaveOptions packed;
  packed.compress = [](const std::string& group) { return group == "packed"; };
  ASSERT_TRUE(save(store_, dir_, s.snapshot, packed).ok());
  size_t files = 0;
  for (const auto& e : std::filesystem::directory_iterator(dir_ + "/checkpoint-7")) {
    ++files;
    const auto size = std::filesystem::file_size(e.path());
    for (uintmax_t at = 0; at < size; ++at) {
      std::fstream f(e.path(), std::ios::in | std::ios::out | std::ios::binary);
      f.seekg(static_cast<std::streamoff>(at));
      const char c = static_cast<char>(f.get());
      const auto put = [&](char x) { f.seekp(static_cast<std::streamoff>(at)), f.put(x), f.flush(); };
      put(static_cast<char>(c ^ 1));
      const auto found = look_at(store_, dir_ + "/checkpoint-7");
      EXPECT_FALSE(found.ok() && found->state == State::kWhole && load_state(store_, *found, s).ok()) << e.path() << " at " << at;
      put(c);
    }
  }
  EXPECT_EQ(files, 5U);
  EXPECT_TRUE(load_state(store_, newest(store_), s).ok());
}

TEST_F(Checkpoints, StillTensorsAreLinked) {
  TestState s = make_state(1, kGroups, true);
  auto first = save(store_, dir_, s.snapshot, {});
  ASSERT_TRUE(first.ok()) << first.error().message;
  SaveOptions o;
  o.previous = &first->manifest;
  s.snapshot.step = 2;
  s.fill(0, 1, 9);
  s.fill(1, 0, 9);  // said to be still, and is not
  auto second = save(store_, dir_, s.snapshot, o);
  ASSERT_TRUE(second.ok()) << second.error().message;
  const Object* still = second->manifest.find("model-00001-of-00002.safetensors");
  ASSERT_TRUE(still);
  EXPECT_EQ(still->same_as, 1);
  EXPECT_EQ(std::filesystem::hard_link_count(dir_ + "/checkpoint-2/model-00001-of-00002.safetensors"), 2U);
  EXPECT_FALSE(second->manifest.find("optimizer-00001-of-00002.safetensors")->same_as);
  EXPECT_LT(second->written, first->written - 1'000'000);
  // The one that has the link does not need the one that was linked to.
  std::filesystem::remove_all(dir_ + "/checkpoint-1");
  auto back = load_state(store_, newest(store_), s);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, s.values);
}

// A mounted bucket: no rename, no link; the manifest comes last, and whatever call the world ends at, what loads was saved.
TEST_F(Checkpoints, AMountedBucketTakesTheManifestLast) {
  const TestState one = make_state(1, {{"model", {5000, 3}}}, true), two = make_state(2, {{"model", {5000, 3}}}, true);
  for (uint64_t stop = 0;; ++stop) {
    SetUp();
    uint64_t calls = 0;
    bool armed = false;
    const auto faulty = make_fault_store(store_, {[&](uint64_t, const char*, const std::string&) { return armed && calls++ >= stop ? std::string("the machine stops") : std::string(); }, {}});
    const auto mount = make_mount_store(*faulty);
    auto first = save(*mount, dir_, one.snapshot, {});
    ASSERT_TRUE(first.ok()) << first.error().message;
    armed = true;
    SaveOptions o;
    o.previous = &first->manifest;
    const bool ended = save(*mount, dir_, two.snapshot, o).ok();
    const Found f = newest(store_);
    ASSERT_TRUE(f.step == 1 || f.step == 2) << stop;
    auto back = load_state(store_, f, one);
    ASSERT_TRUE(back.ok()) << stop << ": " << back.error().message;
    EXPECT_EQ(*back, f.step == 1 ? one.values : two.values) << stop;
    if (!ended) continue;
    EXPECT_EQ(f.step, 2);
    EXPECT_GT(stop, 8U);
    // Saved again over itself by a later process, and by a saver.
    armed = false;
    o.epoch = 2;
    auto again = save(*mount, dir_, two.snapshot, o);
    ASSERT_TRUE(again.ok()) << again.error().message;
    auto saver = Saver::open(*mount, dir_, {});
    ASSERT_TRUE(saver.ok()) << saver.error().message;
    TestState three = make_state(3, {{"model", {5000, 3}}});
    Status s = (*(*saver)->save(three.snapshot))->wait();
    EXPECT_TRUE(s.ok()) << s.error().message;
    EXPECT_TRUE((*saver)->report(3, {{"loss", 1}}).ok());
    EXPECT_TRUE((*saver)->close().ok());
    EXPECT_EQ(newest(store_).step, 3);
    EXPECT_TRUE(verify(store_, newest(store_), 2).ok());
    break;
  }
}

// Whatever call the world ends at, the newest whole checkpoint is the one before or the new one, and loads bit for bit.
TEST_F(Checkpoints, SurviveAStopAtEveryCall) {
  const TestState one = make_state(1, {{"model", {5000, 3}}}), two = make_state(2, {{"model", {5000, 3}}});
  int rounds = 0;
  for (uint64_t stop = 0;; ++stop) {
    SetUp();
    uint64_t calls = 0;
    bool armed = false;
    const auto faulty = make_fault_store(store_, {[&](uint64_t, const char*, const std::string&) { return armed && calls++ >= stop ? std::string("the machine stops") : std::string(); }, {}});
    ASSERT_TRUE(save(*faulty, dir_, one.snapshot, {}).ok());
    armed = true;
    const bool ended = save(*faulty, dir_, two.snapshot, {}).ok();
    const Found f = newest(store_);
    ASSERT_TRUE(f.step == 1 || f.step == 2) << stop;
    EXPECT_TRUE(!ended || f.step == 2);
    auto back = load_state(store_, f, one);
    ASSERT_TRUE(back.ok()) << stop << ": " << back.error().message;
    EXPECT_EQ(*back, f.step == 1 ? one.values : two.values) << stop;
    ++rounds;
    if (ended) break;
  }
  EXPECT_GT(rounds, 15);
}

TEST_F(Checkpoints, TheSameStepIsReplaced) {
  const TestState one = make_state(1, kGroups);
  TestState again = make_state(1, kGroups);
  again.fill(0, 0, 77);
  ASSERT_TRUE(save(store_, dir_, one.snapshot, {}).ok());
  ASSERT_TRUE(save(store_, dir_, again.snapshot, {}).ok());
  auto back = load_state(store_, newest(store_), one);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, again.values);
}

TEST_F(Checkpoints, ASaverGoesOnBehindTheTraining) {
  TestState s = make_state(0, kGroups);
  SaverOptions o;
  o.keep.last = 2;
  auto saver = Saver::open(store_, dir_, o);
  ASSERT_TRUE(saver.ok()) << saver.error().message;
  std::vector<std::vector<std::vector<float>>> want;
  for (int64_t step = 1; step <= 6; ++step) {
    s.snapshot.step = step;
    s.fill(1, 0, static_cast<float>(step));
    want = s.values;
    auto handle = (*saver)->save(s.snapshot);
    ASSERT_TRUE(handle.ok()) << handle.error().message;
    s.fill(1, 0, -5);  // after save() has returned nobody sees it
    EXPECT_EQ((*handle)->step(), step);
    ASSERT_TRUE((*saver)->report(step, {{"loss", 1.0 / static_cast<double>(step)}}).ok());
    if (step == 6) {
      Status done = (*handle)->wait();
      EXPECT_TRUE(done.ok()) << done.error().message;
      auto same = (*saver)->save(s.snapshot);
      ASSERT_TRUE(same.ok());
      EXPECT_EQ((*same).get(), (*handle).get());
    }
  }
  Status closed = (*saver)->close();
  EXPECT_TRUE(closed.ok()) << closed.error().message;
  auto all = scan(store_, dir_);
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 2U);
  EXPECT_EQ((*all)[0].step, 6);
  EXPECT_EQ((*all)[1].step, 5);
  EXPECT_NEAR((*all)[1].metrics.at("loss"), 0.2, 1e-9);
  // What did not change was found out, and is in the directory once.
  EXPECT_TRUE(std::any_of((*all)[0].manifest.objects.begin(), (*all)[0].manifest.objects.end(), [](const Object& x) { return x.same_as.has_value(); }));
  auto back = load_state(store_, (*all)[0], s);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, want);
  EXPECT_EQ((*saver)->stats().saves, 6);
  EXPECT_EQ(read_text(store_, dir_ + "/latest").value(), "6\n");
}

TEST_F(Checkpoints, WhatStagingHasNoRoomForIsWrittenBeforeTheSaveReturns) {
  SaverOptions o;
  o.staging = 1'300'000;  // of 1.2, 0.28 and 1.2 MB
  auto saver = Saver::open(store_, dir_, o);
  ASSERT_TRUE(saver.ok()) << saver.error().message;
  for (int64_t step = 1; step <= 3; ++step) {
    TestState s = make_state(step, kGroups, true);
    const auto values = s.values;
    auto handle = (*saver)->save(s.snapshot);
    ASSERT_TRUE(handle.ok()) << handle.error().message;
    EXPECT_TRUE((*handle)->done());
    for (auto& g : s.snapshot.groups)
      for (auto& t : g.tensors) std::fill_n(const_cast<std::byte*>(t.bytes), bytes_of(t.spec), std::byte{0xee});
    const Found f = newest(store_);
    EXPECT_EQ(f.step, step);
    auto back = load_state(store_, f, s);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(*back, values);
  }
  EXPECT_LE((*saver)->stats().staging_bytes, 2u << 20);
}

TEST_F(Checkpoints, TensorsOfADeviceAreCopiedByItsRuntime) {
  int locked = 0, unlocked = 0;
  SaverOptions o;
  o.page_lock = {[&](std::byte*, uint64_t) { return ++locked > 0; }, [&](std::byte*) { ++unlocked; }};
  auto saver = Saver::open(store_, dir_, o);
  ASSERT_TRUE(saver.ok()) << saver.error().message;
  const TestState s = make_state(1, kGroups, true);
  for (int64_t step = 1; step <= 2; ++step) {
    Snapshot live = s.snapshot;
    live.step = step;
    std::vector<std::pair<const std::byte*, uint64_t>> from;
    for (Group& g : live.groups)
      for (size_t i = 0; i < g.tensors.size(); i += 2)
        if (Tensor& t = g.tensors[i]; bytes_of(t.spec)) from.emplace_back(std::exchange(t.bytes, nullptr), bytes_of(t.spec));
    bool arrived = false;
    auto handle = (*saver)->save(live, [&](const std::vector<std::byte*>& into) -> Result<std::function<Status()>> {
      EXPECT_EQ(into.size(), from.size());
      return std::function<Status()>([&, into]() -> Status {
        for (size_t i = 0; i < into.size(); ++i) std::memcpy(into[i], from[i].first, from[i].second);
        arrived = true;
        return {};
      });
    });
    ASSERT_TRUE(handle.ok()) << handle.error().message;
    EXPECT_TRUE(arrived);
    ASSERT_TRUE((*handle)->wait().ok());
    auto back = load_state(store_, newest(store_), s);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(*back, s.values);
  }
  // One that fails leaves nothing, and the next goes on.
  Snapshot live = s.snapshot;
  live.step = 3;
  live.groups[0].tensors[0].bytes = nullptr;
  EXPECT_FALSE((*saver)->save(live, [](const std::vector<std::byte*>&) -> Result<std::function<Status()>> { return failed("the device is gone"); }).ok());
  EXPECT_FALSE((*saver)->save(live).ok());
  live = s.snapshot;
  live.step = 4;
  auto last = (*saver)->save(live);
  ASSERT_TRUE(last.ok() && (*last)->wait().ok());
  ASSERT_TRUE((*saver)->close().ok());
  saver->reset();
  EXPECT_EQ(locked, 1);
  EXPECT_EQ(unlocked, 1);
}

TEST_F(Checkpoints, ASaveDoesNotWaitForRetention) {
  std::mutex mutex;
  std::condition_variable changed;
  bool removing = false, saved = false, in_time = true;
  const auto slow = make_fault_store(store_, {[&](uint64_t, const char* op, const std::string& path) {
                                                std::unique_lock lock(mutex);
                                                if (op != std::string_view("remove") || path.find("checkpoint-1") == path.npos || removing) return std::string();
                                                removing = true;
                                                changed.notify_all();
                                                in_time = changed.wait_for(lock, std::chrono::seconds(20), [&] { return saved; });
                                                return std::string();
                                              }, {}});
  SaverOptions o;
  o.keep.last = 1;
  auto saver = Saver::open(*slow, dir_, o);
  ASSERT_TRUE(saver.ok());
  for (int64_t step = 1; step <= 2; ++step) {
    const TestState s = make_state(step, kGroups);
    auto handle = (*saver)->save(s.snapshot);
    ASSERT_TRUE(handle.ok() && (*handle)->wait().ok());
  }
  {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return removing; }));
  }
  const TestState s = make_state(3, kGroups);
  auto handle = (*saver)->save(s.snapshot);
  ASSERT_TRUE(handle.ok());
  {
    std::lock_guard lock(mutex);
    saved = true;
  }
  changed.notify_all();
  EXPECT_TRUE((*handle)->wait().ok());
  EXPECT_TRUE((*saver)->wait().ok());
  EXPECT_TRUE(in_time);
  EXPECT_EQ(scan(store_, dir_)->size(), 1U);
}

TEST_F(Checkpoints, WritingLeavesTheProcessorToTheTraining) {
  std::mutex mutex;
  std::map<std::string, int> nice;
  const auto watched = make_fault_store(store_, {[&](uint64_t, const char* op, const std::string&) {
                                                  std::lock_guard lock(mutex);
                                                  nice[op] = ::getpriority(PRIO_PROCESS, 0);
                                                  return std::string();
                                                }, {}});
  auto saver = Saver::open(*watched, dir_, {});
  ASSERT_TRUE(saver.ok());
  nice.clear();
  const TestState s = make_state(1, kGroups);
  auto handle = (*saver)->save(s.snapshot);
  ASSERT_TRUE(handle.ok() && (*handle)->wait().ok());
  ASSERT_TRUE(nice.contains("write"));
  for (const auto& [op, n] : nice) EXPECT_GE(n, 10) << op;
  EXPECT_LT(::getpriority(PRIO_PROCESS, 0), 10);
}

TEST_F(Checkpoints, AReplacedProcessWritesNothingMore) {
  TestState s = make_state(1, {{"model", {100}}});
  auto zombie = Saver::open(store_, dir_, {});
  ASSERT_TRUE(zombie.ok());
  ASSERT_TRUE((*(*zombie)->save(s.snapshot))->wait().ok());
  auto heir = Saver::open(store_, dir_, {});
  ASSERT_TRUE(heir.ok());
  EXPECT_EQ((*heir)->epoch(), (*zombie)->epoch() + 1);
  s.snapshot.step = 9;
  Status late = (*(*zombie)->save(s.snapshot))->wait();
  ASSERT_FALSE(late.ok());
  EXPECT_NE(late.error().message.find("has taken over"), std::string::npos) << late.error().message;
  s.snapshot.step = 2;
  ASSERT_TRUE((*(*heir)->save(s.snapshot))->wait().ok());
  EXPECT_EQ(newest(store_).step, 2);
  EXPECT_TRUE((*zombie)->close().ok());  // its error was told
}

TEST_F(Checkpoints, AnAbortedSaveLeavesTheOneBefore) {
  TestState s = make_state(1, {{"model", {3'000'000}}});
  auto saver = Saver::open(store_, dir_, {});
  ASSERT_TRUE(saver.ok());
  ASSERT_TRUE((*(*saver)->save(s.snapshot))->wait().ok());
  s.snapshot.step = 2;
  auto handle = (*saver)->save(s.snapshot);
  ASSERT_TRUE(handle.ok());
  (*handle)->abort();
  Status end = (*handle)->wait();
  EXPECT_TRUE(end.ok() || end.error().kind == ErrorKind::kInterrupted) << end.error().message;
  EXPECT_EQ(newest(store_).step, end.ok() ? 2 : 1);
  EXPECT_TRUE((*saver)->close().ok());
  for (const auto& e : std::filesystem::directory_iterator(dir_)) EXPECT_EQ(e.path().filename().string().find(".ingot-"), std::string::npos) << e.path();
}

// A zombie's save that fails takes nothing of the run that took over, whatever the two steps are called.
TEST_F(Checkpoints, AFailedSaveRemovesOnlyItsOwn) {
  std::filesystem::create_directories(dir_ + "/.checkpoint-10.ingot-0123456789ab.part");
  TestState s = make_state(1, {{"model", {10}}});
  SaveOptions o;
  o.attempt = "zombie 1";
  o.may_commit = [] { return Status(failed("replaced")); };
  EXPECT_FALSE(save(store_, dir_, s.snapshot, o).ok());
  std::vector<std::string> left;
  for (const auto& e : std::filesystem::directory_iterator(dir_)) left.push_back(e.path().filename());
  EXPECT_EQ(left, std::vector<std::string>{".checkpoint-10.ingot-0123456789ab.part"});
}

TEST_F(Checkpoints, OnAMountWhatIsNewerIsNotRemoved) {
  const auto mount = make_mount_store(store_);
  TestState s = make_state(2, {{"model", {10}}});
  SaveOptions o;
  o.epoch = 5;
  ASSERT_TRUE(save(*mount, dir_, s.snapshot, o).ok());
  o.epoch = 4;
  EXPECT_FALSE(save(*mount, dir_, s.snapshot, o).ok());
  o.epoch = 6, o.may_commit = [] { return Status(failed("replaced")); };
  EXPECT_FALSE(save(*mount, dir_, s.snapshot, o).ok());
  EXPECT_EQ(newest(store_).manifest.epoch, 5);
  EXPECT_TRUE(verify(store_, newest(store_), 1).ok());
}

// A process that was replaced wakes up in the middle of the same step's save: it makes no file that is there, and none at all once it looks.
TEST_F(Checkpoints, OnAMountAnothersFilesAreNotWrittenOver) {
  const auto mount = make_mount_store(store_);
  TestState s = make_state(2, {{"model", {10}}});
  const std::string theirs = dir_ + "/checkpoint-2/model.safetensors";
  SaveOptions o;
  int asked = 0;
  o.may_commit = [&]() -> Status {
    if (++asked == 3) std::ofstream(theirs) << "theirs";  // 1: before it clears the directory, 2: writer.json, 3: state.json
    return {};
  };
  const auto done = save(*mount, dir_, s.snapshot, o);
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message.find(theirs + ": something has this name already"), std::string::npos) << done.error().message;
  asked = 0;
  o.may_commit = [&]() -> Status {
    if (++asked < 4) return {};
    EXPECT_FALSE(is_there(store_, theirs));
    return failed("replaced");
  };
  const auto replaced = save(*mount, dir_, s.snapshot, o);
  ASSERT_FALSE(replaced.ok());
  EXPECT_EQ(replaced.error().message, "replaced");
  EXPECT_EQ(asked, 4);
}

// The save after the loop of a run that had ended: where a save begins by removing what is there of its step, the state that was resumed from is not put at risk.
TEST_F(Checkpoints, OnAMountWhatWasResumedFromIsNotWrittenAgain) {
  const auto mount = make_mount_store(store_);
  const TestState s = make_state(2, {{"model", {10}}});
  SaverOptions o;
  o.run = "a run";
  { ASSERT_TRUE((*(*Saver::open(*mount, dir_, o))->save(s.snapshot))->wait().ok()); }
  const Found before = newest(store_);
  o.parent = 2;
  auto saver = Saver::open(*mount, dir_, o);
  ASSERT_TRUE(saver.ok());
  const auto again = (*saver)->save(s.snapshot);
  ASSERT_TRUE(again.ok() && (*again)->wait().ok());
  EXPECT_EQ(newest(store_).manifest.epoch, before.manifest.epoch);
  o.run = "another";
  auto other = Saver::open(*mount, dir_, o);
  ASSERT_TRUE((*(*other)->save(s.snapshot))->wait().ok());
  EXPECT_GT(newest(store_).manifest.epoch, before.manifest.epoch);
}

// A file that is not there, though it had no bytes, or that has another size, is found before a byte goes into place.
TEST_F(Checkpoints, FilesAreLookedAtBeforeAnythingIsTouched) {
  TestState s = make_state(1, kGroups);
  s.snapshot.files["empty.txt"] = "";
  ASSERT_TRUE(save(store_, dir_, s.snapshot, {}).ok());
  const Found f = newest(store_);
  std::vector<float> into(s.values[0][0].size(), -1);
  const auto stored = tensors_of(store_, f);
  ASSERT_TRUE(stored.ok());
  const auto first = std::find_if(stored->begin(), stored->end(), [](const Stored& t) { return t.group == "model" && t.name == "t0"; });
  const std::vector<Target> targets = {{*first, {reinterpret_cast<std::byte*>(into.data()), into.size() * sizeof(float)}}};
  ASSERT_TRUE(restore(store_, f, targets, 2).ok());
  std::fill(into.begin(), into.end(), -1.0F);
  for (const char* name : {"empty.txt", "optimizer.safetensors"}) {
    const std::string path = f.path + "/" + name;
    const std::string text = read_text(store_, path).value();
    std::filesystem::remove(path);
    EXPECT_FALSE(restore(store_, f, targets, 2).ok()) << name;
    std::ofstream(path) << text << "more";
    const Status longer = restore(store_, f, targets, 2);
    ASSERT_FALSE(longer.ok()) << name;
    EXPECT_NE(longer.error().message.find("its manifest says"), std::string::npos) << longer.error().message;
    std::ofstream(path) << text;
    EXPECT_EQ(into, std::vector<float>(into.size(), -1)) << name;
  }
  EXPECT_TRUE(restore(store_, f, targets, 2).ok());
}

TEST_F(Checkpoints, NotesBringNoCheckpointBack) {
  const TestState s = make_state(1, {{"model", {10}}});
  ASSERT_TRUE(save(store_, dir_, s.snapshot, {}).ok());
  const Found f = newest(store_);
  std::filesystem::remove_all(f.path);
  EXPECT_FALSE(put_metrics(store_, f, {{"loss", 1.0}}).ok());
  EXPECT_FALSE(put_pinned(store_, f, true).ok());
  EXPECT_FALSE(put_quarantine(store_, f, "why", 1).ok());
  EXPECT_FALSE(std::filesystem::exists(f.path));
}

TEST_F(Checkpoints, LargeTensorsAreWrittenFromTheirPages) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, kLargeTensor - 1, kLargeTensor, kLargeTensor + 1}) EXPECT_EQ(staged_bytes(bytes) % (bytes < kLargeTensor ? 64 : 4096), 0) << bytes;
  const TestState s = make_state(1, {{"model", {3, 1 << 20, 5, 1 << 18}}});
  auto saver = Saver::open(store_, dir_, {});
  ASSERT_TRUE(saver.ok() && (*(*saver)->save(s.snapshot))->wait().ok());
  auto all = scan(store_, dir_);
  const auto stored = tensors_of(store_, all->at(0));
  ASSERT_TRUE(stored.ok());
  const std::string text = read_text(store_, dir_ + "/checkpoint-1/model.safetensors").value();
  uint64_t header = 0;
  std::memcpy(&header, text.data(), sizeof header);
  EXPECT_EQ((8 + header) % 4096, 0);
}

TEST_F(Checkpoints, ClosingWhileASaveWaitsEnds) {
  for (int i = 0; i < 20; ++i) {
    TestState s = make_state(1, {{"model", {500'000}}}), t = make_state(2, {{"model", {500'000}}});
    auto saver = Saver::open(store_, dir_, {});
    ASSERT_TRUE(saver.ok());
    ASSERT_TRUE((*saver)->save(s.snapshot).ok());
    std::thread other([&] {
      auto handle = (*saver)->save(t.snapshot);
      if (handle.ok()) (void)(*handle)->wait();
    });
    (void)(*saver)->close();
    other.join();
  }
}

Found whole(int64_t step, double loss, double time = 0) {
  Found f;
  f.step = step, f.state = State::kWhole, f.bytes = 100;
  f.manifest.time = time;
  f.metrics["loss"] = loss;
  return f;
}

std::vector<int64_t> kept(const std::vector<Found>& found, const Keep& keep, const Needed& needed = {}) {
  std::vector<int64_t> out;
  for (const Decision& d : decide(found, keep, needed, 1000)) {
    EXPECT_FALSE(d.why.empty());
    if (d.keep) out.push_back(d.step);
  }
  return out;
}

TEST(Threads, AFewOfAMachineWrite) {
  const int all = thread_count(0);
  const auto threads = [](int asked, int neighbours, bool compresses) {
    SaveOptions o;
    o.threads = asked, o.neighbours = neighbours;
    return writing_threads(o, compresses);
  };
  EXPECT_EQ(threads(0, 1, false), std::min(4, all));
  EXPECT_EQ(threads(0, 2, false), std::min(2, all));
  for (const int many : {4, 8, 1 << 16}) EXPECT_EQ(threads(0, many, false), 1);
  EXPECT_EQ(threads(0, 8, true), all);
  EXPECT_EQ(threads(7, 8, false), 7);
}

TEST(CheckpointKeep, EveryRuleAddsAndTheNewestStays) {
  std::vector<Found> all;
  for (int64_t step = 10; step >= 1; --step) all.push_back(whole(step * 100, step == 4 ? std::nan("") : static_cast<double>(step % 5), static_cast<double>(step * 90)));
  using Steps = std::vector<int64_t>;
  EXPECT_EQ(kept(all, {}).size(), 10U);
  Keep k;
  k.last = 2;
  EXPECT_EQ(kept(all, k), (Steps{1000, 900}));
  k.best = 2, k.metric = "loss";
  EXPECT_EQ(kept(all, k), (Steps{1000, 900, 500}));  // 1000 and 500 have 0
  k.greatest = true;
  EXPECT_EQ(kept(all, k), (Steps{1000, 900, 800}));  // 900 has 4, then 800 has 3; 400 has no number
  k.every_steps = 300;
  EXPECT_EQ(kept(all, k), (Steps{1000, 900, 800, 600, 300}));
  EXPECT_EQ(kept(all, k, {700, 0}), (Steps{1000, 900, 800, 700, 600, 300}));
  k = {};
  k.exponential = true;
  EXPECT_EQ(kept(all, k), (Steps{1000, 900, 800, 500, 100}));  // 0; 100 (7 bits); 200 (8); 300..500 (9); 600..900 (10)
  k = {};
  k.last = 8, k.max_age = 500.0;
  EXPECT_EQ(kept(all, k), (Steps{1000, 900, 800, 700, 600}));  // 600 is 460 s old
  k = {};
  k.max_bytes = 300;
  EXPECT_EQ(kept(all, k), (Steps{1000, 900, 800}));
  k.max_bytes = 0;
  EXPECT_EQ(kept(all, k), (Steps{1000}));
  // 1000 is 100 s old, 900 190 s, 800 280 s.
  k.max_bytes = std::nullopt, k.last = 1;
  EXPECT_EQ(kept(all, k, {std::nullopt, 200}), (Steps{1000, 900, 800}));
  EXPECT_EQ(kept(all, k, {std::nullopt, 50}), (Steps{1000}));
}

TEST(CheckpointKeep, WhatIsNotWholeIsLeft) {
  std::vector<Found> all = {whole(3, 1), whole(2, 1), whole(1, 1)};
  all[0].state = State::kTorn;
  Keep k;
  k.last = 1;
  EXPECT_EQ(kept(all, k), (std::vector<int64_t>{3, 2}));
}

}  // namespace
}  // namespace ingot::checkpoint
