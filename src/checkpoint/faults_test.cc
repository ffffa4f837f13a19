// Every call of a store fails once, in turn, while a run saves, links, prunes and resumes: an error of the medium, and the run goes on. What was acknowledged loads, each error is
// told once, and nothing partial has a final name.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/sanitized.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/saver.h"
#include "storage/fault.h"
#include "storage/mount.h"

namespace ingot::checkpoint {
namespace {

using namespace checkpoint::testing;

enum class Medium { kDisk, kMount };

TestState state_of(int64_t step) {
  TestState s = make_state(step, {{"model", {50, 3}}, {"optimizer", {20}}}, true);
  s.fill(0, 0, 1);  // still
  return s;
}

struct Counts {
  uint64_t calls = 0, failed_saves = 0, failed_opens = 0, told = 0, quiet = 0;
};

// One run whose call number `fault` fails; false where it has fewer.
bool one_run(Medium medium, uint64_t fault, const char* error, Counts* counts) {
  const auto memory = make_memory_store();
  bool fired = false, armed = false;
  std::string where;
  uint64_t calls = 0;
  MediumErrors errors;
  errors.half = true;
  errors.error = [&](uint64_t, const char* op, const std::string& path) {
    if (!armed || fired || calls++ != fault) return std::string();
    fired = true, where = fmt::format("{} {}", op, path);
    return std::string(error);
  };
  const auto faulty = make_unsound_store(*memory, errors);
  const auto mount = make_mount_store(*faulty);
  Store& store = medium == Medium::kDisk ? *faulty : *mount;
  std::map<int64_t, bool> acknowledged;
  std::vector<int64_t> given_up;
  for (const std::vector<int64_t>& process : {std::vector<int64_t>{1, 2, 3, 4}, {4, 5}}) {
    armed = true;
    std::vector<std::string> notices;
    SaverOptions o;
    o.keep.last = 2, o.threads = 1;
    o.on_notice = [&](const std::string& text) { notices.push_back(text); };
    auto saver = Saver::open(store, "run", o);
    if (!saver.ok()) {
      EXPECT_NE(saver.error().message.find(error), std::string::npos) << where << ": " << saver.error().message;
      ++counts->failed_opens, ++counts->told;
      saver = Saver::open(store, "run", o);  // the program is started again
    }
    EXPECT_TRUE(saver.ok()) << where;
    if (!saver.ok()) return true;
    for (const int64_t step : process) {
      TestState s = state_of(step);
      auto handle = (*saver)->save(s.snapshot);
      Status done = handle.ok() ? (*handle)->wait() : Status(handle.error());
      if (!done.ok()) {
        EXPECT_NE(done.error().message.find(error), std::string::npos) << where << ": " << done.error().message;
        ++counts->failed_saves, ++counts->told;
        given_up.push_back(step);
        continue;
      }
      acknowledged[step] = true;
      (void)(*saver)->report(step, {{"loss", 1.0}});
    }
    const Status closed = (*saver)->close();
    EXPECT_TRUE(closed.ok()) << where << " was told twice: " << closed.error().message;
    saver->reset();
    armed = false;
    // What a resume finds: everything that is called whole loads, and the newest is the newest acknowledged.
    const auto all = scan(*memory, "run");
    EXPECT_TRUE(all.ok()) << where;
    int64_t newest = -1;
    for (const Found& f : all.ok() ? *all : std::vector<Found>()) {
      if (f.state != State::kWhole) {
        // On a disk nothing has a final name before it is whole; under a mount what is not whole says so.
        EXPECT_TRUE(medium == Medium::kMount && f.state == State::kTorn) << where << ": " << f.path << " is " << state_name(f.state);
        continue;
      }
      newest = std::max(newest, f.step);
      const TestState want = state_of(f.step);
      auto values = load_state(*memory, f, want);
      EXPECT_TRUE(values.ok()) << where << ": " << values.error().message;
      if (values.ok()) {
        EXPECT_EQ(*values, want.values) << where << ": step " << f.step;
      }
    }
    EXPECT_FALSE(acknowledged.empty()) << where;
    if (!acknowledged.empty()) {
      EXPECT_GE(newest, acknowledged.rbegin()->first) << where;
    }
  }
  counts->calls = std::max(counts->calls, calls);
  if (fired && counts->told == 0) ++counts->quiet;
  return fired;
}

void every_call(Medium medium, const char* name) {
  Counts all;
  uint64_t runs = 0, quiet = 0;
  // Under sanitizers each run takes seconds: every seventh call there, so that both errors come up still.
  constexpr uint64_t kEach = kSanitized ? 7 : 1;
  for (uint64_t fault = 0;; fault += kEach) {
    Counts one;
    const bool fired = one_run(medium, fault, fault % 2 ? "input/output error" : "no space left on the device", &one);
    all.failed_saves += one.failed_saves, all.failed_opens += one.failed_opens, all.told += one.told, all.calls = std::max(all.calls, one.calls);
    quiet += one.quiet;
    if (!fired) break;
    ++runs;
    EXPECT_LE(one.told, 1U) << "call " << fault;
    if (::testing::Test::HasFailure()) break;
  }
  std::printf("%s: %llu calls failed in turn; %llu saves and %llu starts told of it, %llu needed nobody's attention (a read that is tried another way, retention, late metrics)\n", name,
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(all.failed_saves), static_cast<unsigned long long>(all.failed_opens), static_cast<unsigned long long>(quiet));
  EXPECT_GT(runs, 500U / kEach);
  EXPECT_GT(all.failed_saves, 100U / kEach);
}

TEST(CheckpointFaults, EveryCallOfADiskFailsOnce) { every_call(Medium::kDisk, "a disk"); }
TEST(CheckpointFaults, EveryCallOfAMountFailsOnce) { every_call(Medium::kMount, "a mount"); }

}  // namespace
}  // namespace ingot::checkpoint
