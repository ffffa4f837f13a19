// Mounts of buckets as they behave: no rename, no link, no append, files that appear late and in any order, machines that are lost meanwhile. Where FUSE is missing this stands
// in for python/tests/test_mounts.py.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>

#include "base/clock.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/saver.h"
#include "commit/small_file.h"
#include "storage/forwarding.h"
#include "storage/mount.h"

namespace ingot::checkpoint {
namespace {

using namespace checkpoint::testing;

// What a bucket is told, in the order in which a machine did it; each object's own in order, beside others in any.
class Bucket {
 public:
  void put(const std::string& path, std::string bytes) { told_[path].push_back(std::move(bytes)); }
  void remove(const std::string& path) {
    for (auto& [name, states] : told_)
      if ((name == path || name.starts_with(path + "/")) && states.back()) states.push_back(std::nullopt);
  }
  // Some of what was told gets there.
  void upload(std::mt19937_64& random) {
    for (auto& [name, states] : told_) there_[name] += random() % (states.size() - there_[name] + 1);
  }
  void upload_all() {
    for (auto& [name, states] : told_) there_[name] = states.size();
  }
  // The machine is lost, and with it what had not got there.
  void lose_the_rest() {
    for (auto it = told_.begin(); it != told_.end();) {
      it->second.resize(there_[it->first]);
      it = it->second.empty() ? told_.erase(it) : std::next(it);
    }
  }
  bool has(const std::string& path) const {
    const auto it = there_.find(path);
    return it != there_.end() && it->second == told_.at(path).size();
  }
  std::unique_ptr<Store> contents() const {
    auto store = make_memory_store();
    for (const auto& [name, n] : there_)
      if (n && told_.at(name)[n - 1]) {
        auto f = store->create(name, 0, false);
        if (f.ok()) (void)(*f)->write(0, as_bytes(*told_.at(name)[n - 1]));
      }
    return store;
  }

 private:
  std::map<std::string, std::vector<std::optional<std::string>>> told_;
  std::map<std::string, size_t> there_;
};

class ObjectWrite final : public ForwardingWrite {
 public:
  ObjectWrite(std::unique_ptr<WriteFile> f, std::string path, Bucket& bucket) : ForwardingWrite(std::move(f)), path_(std::move(path)), bucket_(bucket) {}
  Status write(uint64_t offset, ByteView bytes) override {
    EXPECT_EQ(offset, bytes_.size()) << path_;
    bytes_ += as_text(bytes);
    return ForwardingWrite::write(offset, bytes);
  }
  Status complete() override {
    bucket_.put(path_, bytes_);
    return ForwardingWrite::complete();
  }

 private:
  std::string path_, bytes_;
  Bucket& bucket_;
};

// The files of a machine that a bucket is told of; any call may be its last.
class Machine final : public ForwardingStore {
 public:
  Machine(Store& files, Bucket& bucket, uint64_t last) : ForwardingStore(files), bucket_(bucket), left_(last) {}
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_TRY(goes_on());
    INGOT_ASSIGN(auto f, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new ObjectWrite(std::move(f), path, bucket_));
  }
  Status remove(const std::string& path) override {
    INGOT_TRY(goes_on());
    bucket_.remove(path);
    return ForwardingStore::remove(path);
  }
  bool stands() const { return left_ > 0; }

 private:
  Status goes_on() {
    if (left_ == 0) return failed("the machine is lost");
    --left_;
    return {};
  }
  Bucket& bucket_;
  uint64_t left_;
};

class BucketUploads final : public Uploads {
 public:
  explicit BucketUploads(Bucket& bucket) : bucket_(bucket) {}
  Upload look(const std::string& checkpoint, const std::vector<std::string>& files, double) override {
    Upload u{Upload::State::kDone, 0, ""};
    for (const std::string& f : files) u.pending += !bucket_.has(join_path(checkpoint, f));
    if (u.pending) u.state = Upload::State::kPending;
    return u;
  }
  std::string too_much(uint64_t, uint64_t) override { return ""; }
  std::string described() override { return ""; }

 private:
  Bucket& bucket_;
};

TestState content_of(int64_t step) { return make_state(step, {{"model", {50, 3}}, {"optimizer", {20}}}, true); }

// Machine after machine saves into one bucket and is lost at some call. With `cache` files get there late and in any order; else when they are closed.
TEST(CheckpointMounts, LateReorderedAndLost) {
  std::mt19937_64 random(7);
  uint64_t machines = 0, saved = 0, kept_waiting = 0, torn = 0, nameless = 0;
  for (const bool cache : {false, true})
    for (int round = 0; round < 60; ++round) {
      Bucket bucket;
      int64_t durable = 0, next = 1;
      for (int m = 0; m < 4; ++m, ++machines) {
        bucket.lose_the_rest();
        const auto files = bucket.contents();  // the next machine sees what had got there
        Machine machine(*files, bucket, m < 3 ? 10 + random() % 90 : UINT64_MAX);
        const auto mount = make_mount_store(machine);
        // A resume first.
        auto all = scan(*mount, "run");
        ASSERT_TRUE(all.ok());
        int64_t resumed = 0;
        for (const Found& f : *all) {
          EXPECT_NE(f.state, State::kUnverified) << f.path << " is ours, and taken for somebody else's";
          torn += f.state == State::kTorn;
          if (f.state != State::kWhole || resumed) continue;
          const TestState want = content_of(f.step);
          const auto values = load_state(*mount, f, want);
          if (!values.ok()) continue;
          EXPECT_EQ(*values, want.values);
          resumed = f.step;
        }
        EXPECT_GE(resumed, durable) << "what was uploaded is gone; cache " << cache << ", round " << round << ", machine " << m;
        next = resumed + 1;
        SaverOptions o;
        o.keep.last = 2, o.threads = 1;
        if (cache) o.settle = 300, o.uploads = std::make_shared<BucketUploads>(bucket);
        if (resumed) o.parent = resumed;
        auto saver = Saver::open(*mount, "run", o);
        if (!cache) bucket.upload_all();
        if (!saver.ok()) continue;
        std::vector<SavePtr> handles;
        for (int i = 0; i < 6 && machine.stands(); ++i) {
          auto handle = (*saver)->save(content_of(next++).snapshot);
          if (!handle.ok()) break;
          (void)(*handle)->wait();
          (void)(*saver)->wait();  // and its retention: this bucket is one thread's
          handles.push_back(*handle);
          if (!cache) bucket.upload_all();
          else bucket.upload(random);
          for (const SavePtr& h : handles)
            if (h->wait().ok() && (!cache || h->uploaded().state == Upload::State::kDone)) durable = std::max(durable, h->step()), ++saved;
            else ++kept_waiting;
        }
        (void)(*saver)->close();
        if (!cache) bucket.upload_all();
        else if (m < 3) bucket.upload(random);
        else bucket.upload_all();
      }
      // The last machine was not lost: what its predecessors left unfinished is gone, and its newest is there.
      const auto left = bucket.contents();
      const auto all = scan(*left, "run");
      ASSERT_TRUE(all.ok() && !all->empty());
      EXPECT_EQ(all->front().step, next - 1);
      for (const Found& f : *all) {
        nameless += f.state == State::kTorn && !f.writer;  // its writer's name never got there: whose it is nobody knows
        EXPECT_TRUE(f.state == State::kWhole || (cache && f.state == State::kTorn && !f.writer)) << f.path << ": " << f.reason << "; round " << round;
      }
    }
  std::printf("%llu machines, %llu times a checkpoint was seen in the bucket, %llu times it was waited for, %llu torn ones met, %llu of them stay\n", static_cast<unsigned long long>(machines),
              static_cast<unsigned long long>(saved), static_cast<unsigned long long>(kept_waiting), static_cast<unsigned long long>(torn), static_cast<unsigned long long>(nameless));
  EXPECT_GT(torn, 20U);
  EXPECT_GT(kept_waiting, 100U);
}

class Rowless final : public ForwardingStore {
 public:
  Rowless(Store& beneath, bool link, bool exchange) : ForwardingStore(beneath), link_(link), exchange_(exchange) {}
  Result<bool> link(const std::string& a, const std::string& b) override { return link_ ? ForwardingStore::link(a, b) : false; }
  Result<bool> exchange(const std::string& a, const std::string& b) override { return exchange_ ? ForwardingStore::exchange(a, b) : false; }
  Result<std::unique_ptr<StoreLock>> lock(const std::string&) override {
    struct Nothing final : StoreLock {
      bool excludes() const override { return false; }
    };
    return std::unique_ptr<StoreLock>(new Nothing);  // as the local store says of a file system without locks
  }

 private:
  bool link_, exchange_;
};

// A disk or a network mount that renames, and does not link or exchange or lock.
TEST(CheckpointMounts, NothingNeedsLinksExchangesOrLocks) {
  for (const bool link : {false, true})
    for (const bool exchange : {false, true}) {
      const auto memory = make_memory_store();
      Rowless store(*memory, link, exchange);
      for (int process = 0; process < 2; ++process) {
        SaverOptions o;
        o.keep.last = 2;
        auto saver = Saver::open(store, "run", o);
        ASSERT_TRUE(saver.ok()) << saver.error().message;
        for (int64_t step = 1; step <= 4; ++step) {
          auto handle = (*saver)->save(content_of(step).snapshot);
          ASSERT_TRUE(handle.ok()) << handle.error().message;
          const Status done = (*handle)->wait();
          EXPECT_TRUE(done.ok()) << done.error().message;
        }
        EXPECT_TRUE((*saver)->close().ok());
      }
      const auto all = scan(*memory, "run");
      ASSERT_TRUE(all.ok());
      ASSERT_FALSE(all->empty());
      ASSERT_EQ(all->front().step, 4);
      const TestState want = content_of(4);
      auto values = load_state(*memory, all->front(), want);
      ASSERT_TRUE(values.ok()) << values.error().message;
      EXPECT_EQ(*values, want.values);
    }
}

// A save on a mount is written under its own name: what an earlier process left of one goes when a newer is whole; what a later process is writing, or others made, never does.
TEST(CheckpointMounts, WhatEarlierProcessesLeftGoes) {
  const auto memory = make_memory_store();
  const auto mount = make_mount_store(*memory);
  const auto put = [&](const std::string& path, const std::string& text) { ASSERT_TRUE(replace_text(*mount, path, text).ok()); };
  ASSERT_TRUE(put_writer(*mount, "run/checkpoint-50", 1, 0).ok());
  put("run/checkpoint-50/model.safetensors", "cut");
  ASSERT_TRUE(put_writer(*mount, "run/checkpoint-60", 9, 0).ok());  // of a later process
  put("run/checkpoint-70/pytorch_model.bin", "theirs");
  ASSERT_TRUE(put_writer(*mount, "run/checkpoint-80", 1, 0).ok());
  put("run/checkpoint-80/pinned", "");
  ASSERT_TRUE(save(*mount, "run", content_of(1).snapshot, {}).ok());
  auto saver = Saver::open(*mount, "run", {});
  ASSERT_TRUE(saver.ok());
  EXPECT_EQ((*saver)->epoch(), 2);
  ASSERT_TRUE((*(*saver)->save(content_of(2).snapshot))->wait().ok());
  ASSERT_TRUE((*saver)->close().ok());
  std::map<int64_t, State> left;
  for (const Found& f : *scan(*mount, "run")) left[f.step] = f.state;
  EXPECT_EQ(left, (std::map<int64_t, State>{{1, State::kWhole}, {2, State::kWhole}, {60, State::kTorn}, {70, State::kUnverified}, {80, State::kTorn}}));
}

class LateError final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_ASSIGN(auto f, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new File(std::move(f), path.find(failing) != std::string::npos && !failing.empty()));
  }
  std::string failing;

 private:
  class File final : public ForwardingWrite {
   public:
    File(std::unique_ptr<WriteFile> f, bool fails) : ForwardingWrite(std::move(f)), fails_(fails) {}
    Status complete() override { return fails_ ? Status(failed("closing it: the bucket did not take it")) : ForwardingWrite::complete(); }

   private:
    bool fails_;
  };
};

// goofys, and rclone without a cache, upload when a file is closed: what was written and synced before may still not be there.
TEST(CheckpointMounts, AnUploadThatFailsWhenItIsClosedIsNoCheckpoint) {
  for (const bool compressed : {false, true})
    for (const char* file : {"model", "optimizer", "state.json", "manifest.json"}) {
      const auto memory = make_memory_store();
      LateError late(*memory);
      const auto mount = make_mount_store(late);
      SaverOptions o;
      if (compressed) o.compress = [](const std::string&) { return true; };
      auto saver = Saver::open(*mount, "run", o);
      ASSERT_TRUE(saver.ok());
      ASSERT_TRUE((*(*saver)->save(content_of(1).snapshot))->wait().ok());
      late.failing = std::string("checkpoint-2/") + file;
      const Status done = (*(*saver)->save(content_of(2).snapshot))->wait();
      ASSERT_FALSE(done.ok()) << file << ", compressed " << compressed;
      EXPECT_NE(done.error().message.find("the bucket did not take it"), std::string::npos) << done.error().message;
      EXPECT_EQ((*saver)->stats().newest, 1);
      EXPECT_FALSE(is_there(*memory, "run/checkpoint-2"));  // nothing of it is left
      late.failing = "";
      EXPECT_TRUE((*(*saver)->save(content_of(2).snapshot))->wait().ok());
      EXPECT_TRUE((*saver)->close().ok());
      EXPECT_EQ(scan(*memory, "run")->front().step, 2);
    }
}

class Told final : public Uploads {
 public:
  Upload answer;
  std::string much;
  int asked = 0;
  Upload look(const std::string&, const std::vector<std::string>&, double) override { return ++asked, answer; }
  std::string too_much(uint64_t, uint64_t pending) override { return pending ? "" : much; }
  std::string described() override { return ""; }
};

TEST(CheckpointMounts, WrittenIsNotUploaded) {
  const auto memory = make_memory_store();
  const auto mount = make_mount_store(*memory);
  const auto uploads = std::make_shared<Told>();
  std::vector<std::string> notices;
  SaverOptions o;
  o.uploads = uploads, o.settle = 0.2, o.keep.last = 1, o.on_notice = [&](const std::string& s) { notices.push_back(s); };
  auto saver = Saver::open(*mount, "run", o);
  ASSERT_TRUE(saver.ok());
  EXPECT_EQ((*saver)->stats().uploaded, -1);
  uploads->answer = {Upload::State::kPending, 3, ""}, uploads->much = "too much";
  auto one = *(*saver)->save(content_of(1).snapshot);
  ASSERT_TRUE(one->wait().ok());
  EXPECT_EQ(one->uploaded().state, Upload::State::kPending);
  auto two = *(*saver)->save(content_of(2).snapshot);
  ASSERT_TRUE(two->wait().ok() && (*saver)->wait().ok());
  EXPECT_EQ((*saver)->stats().newest, 2);
  EXPECT_EQ((*saver)->stats().uploaded, -1);
  EXPECT_GT((*saver)->stats().pending_bytes, 0U);
  EXPECT_EQ(scan(*mount, "run")->size(), 2U);  // nothing goes while nothing is in the bucket
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_NE(notices[0].find("too much"), std::string::npos);
  // Nobody can tell: time tells.
  uploads->answer = {Upload::State::kUnknown, 0, "why"};
  EXPECT_EQ((*saver)->stats().uploaded, std::nullopt);
  EXPECT_EQ(two->uploaded().how, "why");
  uploads->answer = {Upload::State::kDone, 0, ""};
  EXPECT_EQ((*saver)->stats().uploaded, 2);
  EXPECT_EQ((*saver)->stats().pending_bytes, 0U);
  EXPECT_EQ(two->uploaded().state, Upload::State::kDone);
  const int asked = uploads->asked;
  (void)two->uploaded();
  EXPECT_EQ(uploads->asked, asked);  // what is there stays there
  auto three = *(*saver)->save(content_of(3).snapshot);
  ASSERT_TRUE(three->wait().ok() && (*saver)->close().ok());
  EXPECT_EQ(scan(*mount, "run")->size(), 1U);
}

TEST(CheckpointMounts, TheLogAndTheCacheOfRclone) {
  using S = Upload::State;
  const auto at = [](int second) {
    struct tm t = {};
    t.tm_year = 126, t.tm_mon = 10, t.tm_mday = 26, t.tm_hour = 20, t.tm_min = 45, t.tm_sec = second, t.tm_isdst = -1;
    return static_cast<double>(::mktime(&t));
  };
  const std::string busy = "2026/11/26 20:45:04 INFO  : vfs cache: cleaned: objects 3 (was 3) in use 1, to upload 1, uploading 0, total size 1.2Mi (was 1.2Mi)\n";
  const std::string idle = "2026/11/26 20:45:14 INFO  : vfs cache: cleaned: objects 3 (was 3) in use 0, to upload 0, uploading 0, total size 1.2Mi (was 1.2Mi)\n";
  EXPECT_EQ(upload_by_log(busy + idle + "2026/11/26 20:45:15 INFO  : x: vfs cache: queuing for upload in 1s\n", at(10)).state, S::kDone);
  EXPECT_EQ(upload_by_log(busy + idle, at(15)).state, S::kUnknown);  // said before it was closed
  EXPECT_EQ(upload_by_log(busy, at(2)).state, S::kPending);
  EXPECT_EQ(upload_by_log(idle.substr(20), at(2)).state, S::kUnknown);  // --log-format without a time
  EXPECT_EQ(upload_by_log("", at(2)).state, S::kUnknown);
  EXPECT_NE(upload_by_log(idle.substr(0, 60), at(2)).state, S::kDone);  // a line that is being written
  EXPECT_EQ(clean_by_meta("{\n\t\"ModTime\": \"2026-11-26T20:45:04Z\",\n\t\"Size\": 5,\n\t\"Rs\": [],\n\t\"Dirty\": false\n}\n"), true);
  EXPECT_EQ(clean_by_meta("{\"Size\": 5, \"Dirty\": true}"), false);
  for (const char* torn : {"", "{\"Size\": 5, \"Di", "{}", "[]"}) EXPECT_EQ(clean_by_meta(torn), std::nullopt) << torn;
}

}  // namespace
}  // namespace ingot::checkpoint
