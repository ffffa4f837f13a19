// One checkpoint by several ranks, threads of this process here: whole or not there, whoever fails, and the error says who.
#include "checkpoint/together.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/directory.h"
#include "checkpoint/saver.h"
#include "commit/small_file.h"
#include "storage/mount.h"

namespace ingot::checkpoint {
namespace {

using namespace checkpoint::testing;

// The table that the ranks share.
class Table {
 public:
  void put(const std::string& key, const std::string& text) {
    std::lock_guard lock(mutex_);
    EXPECT_TRUE(texts_.emplace(key, text).second) << key << " was put twice";
    changed_.notify_all();
  }
  size_t most() {  // bytes of the longest text
    std::lock_guard lock(mutex_);
    size_t n = 0;
    for (const auto& [key, text] : texts_) n = std::max(n, text.size());
    return n;
  }
  std::optional<std::string> get(const std::string& key, double seconds) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return texts_.contains(key); })) return std::nullopt;
    return texts_.at(key);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> texts_;
};

class TableMeeting final : public Meeting {
 public:
  TableMeeting(Table& table, int rank, int world) : table_(table), rank_(rank), world_(world) {}
  int rank() const override { return rank_; }
  int world() const override { return world_; }
  Status put(const std::string& key, const std::string& text) override {
    if (dead) return failed("the process has ended");
    table_.put(key, text);
    return {};
  }
  Result<std::string> get(const std::string& key, double seconds) override {
    if (dead) return failed("the process has ended");
    if (auto text = table_.get(key, seconds)) return *text;
    return Error{ErrorKind::kNotFound, "nobody has put " + key};
  }
  bool dead = false;

 private:
  Table& table_;
  const int rank_, world_;
};

constexpr int kWorld = 4;

struct Rank {
  TestState state;
  SaveOptions options;
  std::unique_ptr<TableMeeting> meeting;
  Store* store = nullptr;
  double patience = 20;
  bool saves = true;  // false: it never calls
  Result<Saved> end = failed("it has not run");
};

class SavesTogether : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(dir_);
    if (GetParam()) mount_ = make_mount_store(local_store());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  Store& store() { return mount_ ? *mount_ : local_store(); }

  // A tensor of the model that each rank has a part of, one of its own, and an empty rank.
  std::vector<Rank> ranks(int64_t step) {
    std::vector<Rank> all(kWorld);
    ++attempts_;
    for (int r = 0; r < kWorld; ++r) {
      Rank& x = all[static_cast<size_t>(r)];
      x.state = r == 3 ? make_state(step, {}) : make_state(step, {{"model", {300'000 + r, 5}}, {"optimizer", {70'000}}});
      for (Group& g : x.state.snapshot.groups) g.stem = fmt::format("{}-rank-{:05}", g.name, r);
      if (r) x.state.snapshot.state.clear();
      x.state.snapshot.signature = "model/t0 F32 [1200006]\nmodel/t1 F32 [5]\n";
      x.options.attempt = fmt::format("save {}", attempts_), x.options.epoch = step, x.options.threads = 2;
      x.meeting = std::make_unique<TableMeeting>(*(tables_.emplace_back(std::make_unique<Table>())), r, kWorld);
      x.store = &store();
    }
    Table& shared = *tables_.back();
    for (int r = 0; r < kWorld; ++r) all[static_cast<size_t>(r)].meeting = std::make_unique<TableMeeting>(shared, r, kWorld);
    return all;
  }

  void run(std::vector<Rank>& all) const {
    std::vector<std::thread> threads;
    for (Rank& x : all)
      if (x.saves) threads.emplace_back([&x, this] { x.end = save_together(*x.store, dir_, x.state.snapshot, x.options, *x.meeting, x.patience); });
    for (auto& t : threads) t.join();
  }

  Found newest() {
    auto all = scan(store(), dir_);
    EXPECT_TRUE(all.ok()) << all.error().message;
    for (const Found& f : all.ok() ? *all : std::vector<Found>())
      if (f.state == State::kWhole) return f;
    return {};
  }

  // Each rank's tensors, bit for bit.
  void expect_saved(const std::vector<Rank>& all, int64_t step) {
    const Found f = newest();
    ASSERT_EQ(f.step, step);
    EXPECT_EQ(f.manifest.world, kWorld);
    ASSERT_TRUE(verify(store(), f, 2).ok());
    const auto stored = tensors_of(store(), f);
    ASSERT_TRUE(stored.ok()) << stored.error().message;
    EXPECT_EQ(stored->size(), 9U);
    for (int r = 0; r < 3; ++r) {
      auto back = all[static_cast<size_t>(r)].state.values;
      std::vector<Target> targets;
      for (size_t g = 0; g < back.size(); ++g)
        for (size_t t = 0; t < back[g].size(); ++t)
          for (const Stored& s : *stored)
            if (s.group == all[0].state.snapshot.groups[g].name && s.name == fmt::format("t{}", t) && s.file.find(fmt::format("-rank-{:05}", r)) != std::string::npos) {
              std::fill(back[g][t].begin(), back[g][t].end(), -1.0F);
              targets.push_back({s, {reinterpret_cast<std::byte*>(back[g][t].data()), back[g][t].size() * sizeof(float)}});
            }
      EXPECT_EQ(targets.size(), 3U);
      ASSERT_TRUE(restore(store(), f, targets, 2).ok());
      EXPECT_EQ(back, all[static_cast<size_t>(r)].state.values) << r;
    }
  }
  void expect_nothing_hidden() const {
    for (const auto& e : std::filesystem::directory_iterator(dir_)) EXPECT_EQ(e.path().filename().string().find(".ingot-"), std::string::npos) << e.path();
  }

  const std::string dir_ = ::testing::TempDir() + "ingot_together_" + std::to_string(::getpid());
  std::unique_ptr<Store> mount_;
  std::vector<std::unique_ptr<Table>> tables_;
  int attempts_ = 0;
};

TEST_P(SavesTogether, EachRankWritesItsOwn) {
  for (const bool compressed : {false, true}) {
    auto all = ranks(compressed ? 2 : 1);
    for (Rank& x : all)
      if (compressed) x.options.compress = [](const std::string& group) { return group == "optimizer"; };
    run(all);
    for (const Rank& x : all) ASSERT_TRUE(x.end.ok()) << x.end.error().message;
    EXPECT_EQ(all[3].end->written, 0U);
    EXPECT_EQ(all[1].end->manifest.objects.size(), 2U);
    expect_saved(all, compressed ? 2 : 1);
    expect_nothing_hidden();
  }
}

// A thousand ranks would tell the hashes of gigabytes of megabytes.
TEST_P(SavesTogether, WhatARankTellsDoesNotGrowWithWhatItSaves) {
  size_t told[2] = {};
  for (const int64_t size : {1000, 20'000'000}) {
    auto all = ranks(size);
    all[1].state = make_state(size, {{"model", {size, 5}}});
    all[1].state.snapshot.groups[0].stem = "model-rank-00001", all[1].state.snapshot.state.clear(), all[1].state.snapshot.signature = all[0].state.snapshot.signature;
    run(all);
    for (const Rank& x : all) ASSERT_TRUE(x.end.ok()) << x.end.error().message;
    ASSERT_TRUE(verify(store(), newest(), 2).ok());
    told[size > 1000] = tables_.back()->most();
  }
  EXPECT_LT(told[1], told[0] + 50);  // 76 leaves more
}

TEST_P(SavesTogether, WhoeverSavesSomethingElseIsNamed) {
  auto all = ranks(1);
  all[2].state.snapshot.step = 7;
  run(all);
  for (const Rank& x : all) {
    ASSERT_FALSE(x.end.ok());
    EXPECT_EQ(x.end.error().message, "rank 2 saves step 7, and rank 0 step 1: all ranks save the same steps");
  }
  all = ranks(2);
  all[1].state.snapshot.signature = "model/t0 F32 [1200006]\nmodel/t1 F32 [6]\nmodel/t2 F32 [1]\n";
  run(all);
  for (const Rank& x : all) {
    ASSERT_FALSE(x.end.ok());
    EXPECT_EQ(x.end.error().message, "saving step 2: the state of rank 1 is another than that of rank 0; rank 1 alone has model/t1 F32 [6]; model/t2 F32 [1]; rank 0 alone has model/t1 F32 [5]");
  }
  all = ranks(3);
  all[1].state.snapshot.groups[0].stem = "model-rank-00002";
  run(all);
  // The second one finds it there, before it has written into it.
  const std::string why = all[0].end.error().message;
  EXPECT_NE(why.find("model-rank-00002.safetensors: something has this name already"), std::string::npos) << why;
  EXPECT_TRUE(newest().path.empty());
  expect_nothing_hidden();
}

TEST_P(SavesTogether, WhoeverDoesNotComeIsNamed) {
  auto all = ranks(1);
  run(all);
  for (const int missing : {1, 3, 0}) {
    auto late = ranks(2);
    for (Rank& x : late) x.patience = 0.3;
    late[static_cast<size_t>(missing)].saves = false;
    run(late);
    for (int r = 0; r < kWorld; ++r) {
      if (r == missing) continue;
      ASSERT_FALSE(late[static_cast<size_t>(r)].end.ok());
      const std::string text = late[static_cast<size_t>(r)].end.error().message;
      EXPECT_NE(text.find(missing ? fmt::format("rank {} of 4 has not written its part", missing) : "rank 0 has not begun to save"), std::string::npos) << text;
    }
    expect_saved(all, 1);
  }
}

// A rank's medium fails, or a rank gives the save up: on no rank it is committed, and all say why.
TEST_P(SavesTogether, WhatFailsOnOneRankFailsOnAll) {
  auto first = ranks(1);
  run(first);
  for (const int r : {0, 2}) {
    auto all = ranks(2);
    const auto faulty = make_fault_store(store(), {[](uint64_t, const char* op, const std::string&) { return op == std::string("write") ? "the disk is broken" : ""; }, {}});
    all[static_cast<size_t>(r)].store = faulty.get();
    run(all);
    for (const Rank& x : all) {
      ASSERT_FALSE(x.end.ok());
      EXPECT_NE(x.end.error().message.find("the disk is broken"), std::string::npos) << x.end.error().message;
      EXPECT_TRUE(r == 0 || x.meeting->rank() == r || x.end.error().message.find(fmt::format("rank {}: ", r)) != std::string::npos) << x.end.error().message;
    }
    expect_saved(first, 1);
    ASSERT_TRUE(remove_parts(store(), dir_, {"checkpoint-"}).ok());  // what rank 0's broken disk did not let go; whoever takes the lease does that
  }
  auto all = ranks(3);
  CancelToken token;
  token.cancel();
  all[1].options.cancel = &token;
  run(all);
  for (const Rank& x : all) EXPECT_EQ(x.end.error().kind, ErrorKind::kInterrupted) << x.end.error().message;
  expect_saved(first, 1);
  expect_nothing_hidden();
}

// A process ends at its n-th operation, for every n: the others hear nothing more of it. What is there then is the step before, or this one, whole.
TEST_P(SavesTogether, ARankThatDiesAnywhere) {
  for (const int dies : {0, 1}) {
    int committed = 0, before = 0;
    for (uint64_t n = 0;; ++n) {
      std::filesystem::remove_all(dir_);
      auto first = ranks(1);
      run(first);
      auto all = ranks(2);
      for (Rank& x : all) x.patience = 0.05;
      TableMeeting& meeting = *all[static_cast<size_t>(dies)].meeting;
      bool died = false;
      const auto mortal = make_fault_store(store(), {[&](uint64_t number, const char*, const std::string&) {
                                             if (number >= n) meeting.dead = died = true;
                                             return number >= n ? "killed" : "";
                                           }, {}});
      all[static_cast<size_t>(dies)].store = mortal.get();
      run(all);
      const Found f = newest();
      ++(f.step == 2 ? committed : before);
      expect_saved(f.step == 2 ? all : first, f.step == 2 ? 2 : 1);
      for (const Rank& x : all) EXPECT_TRUE(!x.end.ok() || f.step == 2);
      if (::testing::Test::HasFatalFailure() || !died) break;
    }
    EXPECT_GT(before, 3);
    EXPECT_GT(committed, 0);
    std::printf("rank %d dies at one of its operations: %d times the step before is the newest, %d times this one\n", dies, before, committed);
  }
}

TEST_P(SavesTogether, PartsByTicketAreThereWhenTheyArePublished) {
  SaverOptions o;
  o.keep.last = 1;
  auto saver = Saver::open(store(), dir_, std::move(o));
  ASSERT_TRUE(saver.ok()) << saver.error().message;
  const auto write = [&](std::vector<Rank>& all, const std::string& told) {
    std::vector<std::string> parts;
    for (int r = 0; r < kWorld; ++r) {
      Snapshot groups = all[static_cast<size_t>(r)].state.snapshot;
      groups.state.clear();
      auto ticket = parse_ticket(told);
      EXPECT_TRUE(ticket.ok());
      auto part = write_part(store(), dir_, *ticket, groups, {}, r, kWorld);
      EXPECT_TRUE(part.ok()) << part.error().message;
      if (part.ok()) parts.push_back(*part);
    }
    return parts;
  };
  const auto texts = [&](int64_t step) {
    Snapshot s;
    s.step = step, s.state = R"({"ingot": "state", "version": 1, "state": {}})";
    return s;
  };
  for (const int64_t step : {1, 2}) {
    auto all = ranks(step);
    const auto ticket = (*saver)->begin_parts(step, 1000);
    ASSERT_TRUE(ticket.ok()) << ticket.error().message;
    const auto parts = write(all, *ticket);
    EXPECT_EQ(newest().step, step == 1 ? 0 : 1);  // nothing of it is there yet
    const Status published = (*saver)->publish_parts(texts(step), parts);
    ASSERT_TRUE(published.ok()) << published.error().message;
    expect_saved(all, step);
  }
  EXPECT_EQ(scan(store(), dir_)->size(), 1U);  // keep.last
  // One that does not end: the next begin, or the close, removes what it left.
  auto all = ranks(3);
  auto ticket = (*saver)->begin_parts(3, 1000);
  ASSERT_TRUE(ticket.ok());
  const auto lost = write(all, *ticket);
  ticket = (*saver)->begin_parts(4, 1000);
  ASSERT_TRUE(ticket.ok());
  EXPECT_FALSE((*saver)->publish_parts(texts(3), lost).ok());
  (*saver)->abandon_parts();
  EXPECT_FALSE((*saver)->publish_parts(texts(4), lost).ok());
  EXPECT_EQ(newest().step, 2);
  expect_nothing_hidden();
  // A process that was replaced publishes nothing, and its ranks write nothing more where that can be seen at each file.
  ticket = (*saver)->begin_parts(5, 1000);
  all = ranks(5);
  const auto late = write(all, *ticket);
  auto other = Saver::open(store(), dir_, {});
  ASSERT_TRUE(other.ok());
  const Status replaced = (*saver)->publish_parts(texts(5), late);
  ASSERT_FALSE(replaced.ok());
  EXPECT_NE(replaced.error().message.find("has taken over"), std::string::npos) << replaced.error().message;
  auto part = write_part(store(), dir_, *parse_ticket(*ticket), all[0].state.snapshot, {}, 0, kWorld);
  EXPECT_FALSE(part.ok());
  EXPECT_EQ(newest().step, 2);
  EXPECT_FALSE((*saver)->begin_parts(6, 1000).ok());
}

TEST_P(SavesTogether, AFamilyIsUnderOneLease) {
  const auto open = [&](const std::string& family) {
    SaverOptions o;
    o.family = family;
    return Saver::open(store(), dir_, std::move(o));
  };
  auto one = open("a-0-"), two = open("a-0-"), next = open("a-1-");
  ASSERT_TRUE(one.ok() && two.ok() && next.ok());
  EXPECT_EQ((*one)->epoch(), (*two)->epoch());
  EXPECT_EQ((*next)->epoch(), (*one)->epoch() + 1);
  EXPECT_FALSE((*two)->begin_parts(1, 10).ok());  // replaced
  const auto a = (*next)->begin_parts(1, 10), b = (*open("a-1-"))->begin_parts(2, 10);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE(parse_ticket(*a)->attempt(), parse_ticket(*b)->attempt());
}

INSTANTIATE_TEST_SUITE_P(On, SavesTogether, ::testing::Bool(), [](const auto& info) { return info.param ? "Mount" : "Disk"; });

}  // namespace
}  // namespace ingot::checkpoint
