// Publishing what is not there, not whole, hostile or of another job; late bytes and digests across kills and worlds: what a second reader found.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "exec/conformance_toys.h"
#include "exec/exec_testing.h"
#include "exec/load.h"
#include "commit/names.h"
#include "exec/plan.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

using namespace testing;



// open_sinks() fails after parts of fillers went to the uploads' threads: sinks and journal are freed under them.
class SlowWrites final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  class File final : public ForwardingWrite {
   public:
    using ForwardingWrite::ForwardingWrite;
    Status write(uint64_t at, ByteView b) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      return ForwardingWrite::write(at, b);
    }
  };
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_ASSIGN(auto f, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new File(std::move(f)));
  }
};
TEST(PublishFaults, AJobRefusedWhileHeadersAreUploadedDoesNotUseFreedSinks) {
  auto memory = make_memory_store({WriteMode::kParts, 4096, 8192, 1000, false}), local = make_memory_store(), journal = make_memory_store();
  SlowWrites slow(*memory);
  Output a{{&slow, "a", false}, {}, nullptr};
  a.artifact.tensors = {{"x", eager({10, 10}, 1)}};
  a.layout = [](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    Layout l;
    l.files.push_back({"", 4096 + bytes_of(specs[0].second), {{0, std::string(4096, 'h')}}});
    l.tensors = {{0, 4096}};
    return l;
  };
  // A file that cannot be created.
  FaultHooks hooks;
  hooks.hook = [](uint64_t, const char* op, const std::string&) -> std::string { return std::string(op) == "create" ? "no space" : ""; };
  auto full = make_fault_store(*local, hooks);
  Output b = file_output(*full, "b", {bytes_tensor(pattern(100, 1))});
  ExecOptions o = small_options(2, 50);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const auto r = run_job({a, b}, o);
  EXPECT_FALSE(r.ok());
}

// publish() again, with --force, on a store without rename.
TEST(PublishFaults, PublishingAgainWithForceKeepsTheObject) {
  auto store = make_memory_store(parts()), journal = make_memory_store();
  ExecOptions o = small_options(2, 50);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  o.force = true;
  const std::vector<Output> outs = {file_output(*store, "out", {bytes_tensor(pattern(5000, 1))})};
  auto w = write(outs, o);
  ASSERT_TRUE(w.ok()) << w.error().message;
  ASSERT_TRUE(publish(outs, {*w}, o).ok());
  const std::string want = *read_text(*store, "out");
  ASSERT_EQ(want.size(), 5004u);
  const Status s = publish(outs, {*w}, o);
  EXPECT_EQ(read_text(*store, "out")->size(), want.size()) << "publish said " << (s.ok() ? "ok" : s.error().message);
}

// Written with a size that no file has.
TEST(PublishFaults, AHostileSizeIsAnErrorAndNoException) {
  auto store = make_memory_store(), journal = make_memory_store();
  ExecOptions o = small_options(2, 50);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const std::vector<Output> outs = {file_output(*store, "out", {bytes_tensor(pattern(5000, 1))})};
  Written w = *write(outs, o);
  w.files[0].size = uint64_t{1} << 62;
  Status s;
  EXPECT_NO_THROW(s = publish(outs, {*Written::parse(w.serialize())}, o));
  EXPECT_FALSE(s.ok());
}

// What was written is no longer there as it was when it is published.
TEST(PublishFaults, PublishFindsBytesThatAreNotWhatWasWritten) {
  auto store = make_memory_store(), journal = make_memory_store();
  ExecOptions o = small_options(2, 50);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const std::vector<Output> outs = {file_output(*store, "out", {bytes_tensor(pattern(5000, 1))})};
  Written w = *write(outs, o);
  for (const auto& e : *store->list("."))
    if (e.name.ends_with(".part")) (void)((*store->create(e.name, 5004, true))->write(2000, as_bytes(std::string_view("other bytes"))).ok());
  EXPECT_FALSE(publish(outs, {w}, o).ok());
  EXPECT_FALSE(is_there(*store, "out"));
}

// The name that ranks agree on is any text.
TEST(PublishFaults, AKeyOfAnyTextWorks) {
  for (const char* key : {"step 100", "run/1", "k"}) {
    auto store = make_memory_store(), journal = make_memory_store();
    ExecOptions o = small_options(2, 50);
    o.journal_store = journal.get();
    o.journal_path = "journal";
    o.key = key;
    const std::vector<Output> outs = {file_output(*store, "out", {bytes_tensor(pattern(5000, 1))})};
    auto w = write(outs, o);
    ASSERT_TRUE(w.ok()) << w.error().message;
    for (int again = 0; again < 2; ++again) {
      const Status s = publish(outs, {*w}, o);
      EXPECT_TRUE(s.ok()) << key << " " << again << ": " << s.error().message;
    }
    EXPECT_EQ(store->list(".")->size(), 1u) << key;
  }
}

// --no-resume: what another rank recorded earlier counts although its bytes are gone.
class FaultsRanks : public LocalTest {};
TEST_F(FaultsRanks, StartingOverWithNoResumeDoesNotBelieveAnEarlierRun) {
  put("source", pattern(20000, 1));
  const auto outs = [&] { return std::vector<Output>{file_output(local_store(), at("f"), {source("source")})}; };
  const auto rank = [&](int r, bool resume) {
    ExecOptions o = small_job();
    o.rank = r;
    o.world = 2;
    o.rank_timeout = 0.3;
    o.resume = resume;
    return o;
  };
  ASSERT_TRUE(run_job(outs(), rank(1, true)).ok());
  for (const auto& name : names())
    if (const auto t = parse_temporary(name); t && t->suffix == ".part") std::filesystem::remove_all(at(name));
  auto zero = run_job(outs(), rank(0, true));
  ASSERT_FALSE(zero.ok());
  EXPECT_NE(zero.error().message.find("--no-resume"), std::string::npos) << zero.error().message;
  // As it says; rank 0 is the faster one.
  zero = run_job(outs(), rank(0, false));
  if (zero.ok()) { EXPECT_TRUE(get("f") == "head" + pattern(20000, 1)) << "published with other bytes"; }
}

// A name that leads out of the output.
TEST(PublishFaults, NamesThatLeadOutOfTheOutputAreRefused) {
  for (const auto& kind : {kSinks[0], kSinks[2]}) {
    auto store = make_memory_store(kind.caps), journal = make_memory_store();
    ExecOptions o = small_options(2, 50);
    o.journal_store = journal.get();
    o.journal_path = "journal";
    const std::vector<Output> outs = {directory_output(*store, "out", {bytes_tensor(pattern(500, 1)), bytes_tensor(pattern(500, 2))})};
    Written w = *write(outs, o);
    for (const char* name : {"../t0", "/t0", "a/../../t0", "", ".", "t0/"}) {
      Written bad = w;
      bad.files.push_back({0, name, 0, {}});
      const Status s = publish(outs, {bad}, o);
      EXPECT_FALSE(s.ok()) << kind.name << " '" << name << "'";
      if (s.ok()) break;
    }
  }
}

// Killed in publishing with a digest output beside: "verified" stays in force.
TEST(PublishFaults, DigestsBesideAnOutputThatWasPublishing) {
  const Toys toys;
  for (uint64_t n = 0;; ++n) {
    auto store = make_memory_store(), digests = make_digest_store();
    const auto outs = [&](Store& s) {
      Output d{{digests.get(), "digests", true}, toys.first, nullptr};
      d.layout = directory_layout;
      return std::vector<Output>{{{&s, "out.toy", false}, toys.first, toy_layout}, d};
    };
    bool killed = false;
    uint64_t calls = 0;
    FaultHooks hooks;
    std::atomic<bool> commit{false};
    hooks.hook = [&](uint64_t, const char*, const std::string&) -> std::string {
      if (!commit) return "";
      return (killed |= calls++ >= n) ? "killed" : "";
    };
    auto faulty = make_fault_store(*store, hooks);
    ExecOptions o = small_options(1, 0);
    o.on_progress = [&](const Progress& p) { commit = commit || p.phase == Phase::kCommit; };
    (void)run_job(outs(*faulty), o);
    if (!killed) break;
    o.on_progress = nullptr;
    const auto again = run_job(outs(*store), o);
    EXPECT_TRUE(again.ok()) << n << " " << again.error().message;
    EXPECT_EQ(store->list(".")->size(), 1u) << n;
  }
}

// A rank of a job with a name of its own finds something else under the output's name.
TEST(PublishFaults, ARankDoesNotTakeAnOlderOutputForItsOwnWork) {
  auto store = make_memory_store(), journal = make_memory_store();
  ASSERT_TRUE(store->make_directory("out").ok());
  ASSERT_TRUE((*store->create("out/old", 3, false))->write(0, as_bytes(std::string_view("old"))).ok());
  ExecOptions o = small_options(2, 50);
  o.rank = 1;
  o.world = 2;
  o.key = "0123456789abcdef0123456789abcdef";
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const auto w = write({directory_output(*store, "out", {bytes_tensor(pattern(500, 1))})}, o);
  EXPECT_FALSE(w.ok() && w->published) << "nothing was written, and it says it was published";
}

// The name of a job on a real file system, and names that begin alike.
class FaultsKeys : public LocalTest {};
TEST_F(FaultsKeys, AnyTextIsAName) {
  for (const char* key : {"run/1", "step 100"}) {
    ExecOptions o = small_job();
    o.key = key;
    const std::vector<Output> outs = {file_output(local_store(), at("out"), {bytes_tensor(pattern(500, 1))})};
    auto w = write(outs, o);
    EXPECT_TRUE(w.ok()) << key << ": " << w.error().message;
    if (!w.ok()) continue;
    const Status s = publish(outs, {*w}, o);
    EXPECT_TRUE(s.ok()) << key << ": " << s.error().message;
    std::filesystem::remove(at("out"));
  }
}
TEST_F(FaultsKeys, TwoThatBeginAlike) {
  const auto job = [&](const char* key, uint32_t seed, const char* name) {
    ExecOptions o = small_job();
    o.key = key;
    o.world = 2;
    Output d = directory_output(local_store(), at("out"), {bytes_tensor(pattern(500, seed))});
    d.layout = [name](const std::vector<NamedSpec>& specs) -> Result<Layout> {
      Layout l;
      l.tensors.push_back({0, 0});
      l.files.push_back({name, bytes_of(specs[0].second), {}});
      return l;
    };
    return std::pair(std::vector<Output>{d}, o);
  };
  const auto [first, fo] = job("checkpoint-000100", 1, "t-100");
  ASSERT_TRUE(write(first, fo).ok());  // and never published
  const auto [second, so] = job("checkpoint-000200", 2, "t-200");
  auto w = write(second, so);
  ASSERT_TRUE(w.ok()) << w.error().message;
  const Status s = publish(second, {*w}, so);
  EXPECT_TRUE(s.ok()) << s.error().message;
}

// Late bytes and digests, killed, and gone on with in other worlds.
TEST(PublishFaults, LateBytesInChangingWorlds) {
  const Toys toys;
  auto reference = make_memory_store(), rj = make_memory_store(), digests = make_digest_store();
  ExecOptions one = small_options(2, 100);
  one.journal_store = rj.get();
  one.journal_path = "journal";
  ASSERT_TRUE(run_job(with_digests(toys, *reference, *digests, false), one).ok());
  const std::string want = *read_text(*reference, "out.toy");
  for (const auto& kind : {kSinks[0], kSinks[2]})
    for (uint64_t n = 0; n < 700; n += 23) {
      auto store = make_memory_store(kind.caps), journal = make_memory_store();
      const auto world = [&](int w, uint64_t die) {
        std::atomic<uint64_t> writes{0};
        FaultHooks hooks;
        hooks.hook = [&](uint64_t, const char*, const std::string&) -> std::string { return writes++ >= die ? "killed" : ""; };
        auto fs = make_fault_store(*store, hooks), fj = make_fault_store(*journal, hooks);
        std::vector<std::string> errors(w);
        std::vector<std::thread> ranks;
        for (int r = 0; r < w; ++r)
          ranks.emplace_back([&, r] {
            ExecOptions o = small_options(2, 100);
            o.journal_store = fj.get();
            o.journal_path = "journal";
            o.rank = r;
            o.world = w;
            o.rank_timeout = die == UINT64_MAX ? 20 : 0.3;
            const auto result = run_job(with_digests(toys, *fs, *digests, false), o);
            if (!result.ok()) errors[r] = result.error().message;
          });
        for (auto& t : ranks) t.join();
        std::string all;
        for (const auto& e : errors) all += e;
        return all;
      };
      (void)world(2, n);
      (void)world(3, n / 2);
      // On a store without notes nobody can tell a finished output from another's.
      if (const auto done = read_text(*store, "out.toy"); !kind.caps.rename && done.ok() && *done == want && !is_there(*journal, "journal") && !is_there(*journal, "journal.r0")) continue;
      const std::string e = world(n % 2 ? 1 : 2, UINT64_MAX);
      ASSERT_EQ(e, "") << kind.name << " " << n;
      ASSERT_TRUE(read_text(*store, "out.toy").ok() && *read_text(*store, "out.toy") == want) << kind.name << " " << n;
    }
}

// On a store without rename, digests beside: killed in publishing, and again in the run that was to finish it.
TEST(PublishFaults, APublishingJobWithDigestsIsFinishedAfterTwoKills) {
  const Toys toys;
  for (const auto& kind : {kSinks[0], kSinks[2]})
    for (bool digest : {false, true})
      for (uint64_t n = 0; n < 3; ++n) {
        auto store = make_memory_store(kind.caps), journal = make_memory_store(), digests = make_digest_store();
        const auto outs = [&] {
          Output d{{digests.get(), "digests", true}, toys.first, nullptr};
          d.layout = directory_layout;
          std::vector<Output> o = {{{store.get(), "out.toy", false}, toys.first, toy_layout}};
          if (digest) o.push_back(d);
          return o;
        };
        ExecOptions o = small_options(1, 0);
        const auto run = [&](const char* op, uint64_t after) {
          uint64_t seen = 0;
          FaultHooks hooks;
          hooks.hook = [&](uint64_t, const char* name, const std::string&) -> std::string {
            if (seen || !std::strcmp(name, op)) ++seen;
            return seen > after ? "killed" : "";
          };
          auto faulty = make_fault_store(*journal, hooks);
          o.journal_store = faulty.get();
          o.journal_path = "journal";
          return run_job(outs(), o).ok();
        };
        EXPECT_FALSE(run("remove", 0));   // the first thing of clean(): all is published
        (void)run("write", n);            // the run that was to finish it
        o.journal_store = journal.get();
        const auto last = run_job(outs(), o);
        EXPECT_TRUE(last.ok()) << kind.name << " digest " << digest << " n " << n << ": " << last.error().message;
      }
}

// Other contents under the same name of a job.
TEST(PublishFaults, OtherContentsUnderTheSameNameAreWritten) {
  for (bool force : {false, true}) {
    auto store = make_memory_store(), journal = make_memory_store();
    ExecOptions o = small_options(2, 50);
    o.world = 2;
    o.key = "0123456789abcdef0123456789abcdef";
    o.force = force;
    o.journal_store = journal.get();
    o.journal_path = "journal";
    for (uint32_t content : {1, 2}) {
      const std::vector<Output> outs = {directory_output(*store, "out", {bytes_tensor(pattern(500, content))})};
      auto w = write(outs, o);
      if (!force && content == 2 && !w.ok()) break;  // it exists already
      ASSERT_TRUE(w.ok()) << w.error().message;
      const Status s = publish(outs, {*w}, o);
      ASSERT_TRUE(s.ok()) << s.error().message;
      EXPECT_TRUE(*read_text(*store, "out/sub/t0") == pattern(500, content)) << "force " << force << ": all said ok, and the old content is there";
    }
  }
}

// A Written without an output of the job.
TEST(PublishFaults, AnOutputThatNobodyHasWrittenIsNotPublished) {
  auto store = make_memory_store(), journal = make_memory_store();
  ExecOptions o = small_options(2, 50);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const std::vector<Output> outs = {file_output(*store, "a", {bytes_tensor(pattern(500, 1))}), file_output(*store, "b", {bytes_tensor(pattern(500, 2))})};
  Written w = *write(outs, o);
  std::erase_if(w.files, [](const auto& f) { return f.output == 1; });
  const Status s = publish(outs, {w}, o);
  EXPECT_FALSE(s.ok());
  EXPECT_FALSE(is_there(*store, "b"));
}

// Leaves of another size.
TEST(PublishFaults, AWrittenOfAnotherLeafSizeIsNamed) {
  auto store = make_memory_store(), journal = make_memory_store();
  ExecOptions o = small_options(2, 50);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const std::vector<Output> outs = {file_output(*store, "a", {bytes_tensor(pattern(100, 1))})};
  Written w = *write(outs, o);  // one leaf of 256
  o.leaf_bytes = 1 << 20;
  const Status s = publish(outs, {w}, o);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("leaves of 256 bytes"), std::string::npos) << s.error().message;
}

}  // namespace
}  // namespace ingot
