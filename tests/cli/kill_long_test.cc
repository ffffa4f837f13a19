// Minutes of jobs that are killed at random moments and started again, with other threads and budgets each time, until they are
// done: the bytes are always those of a run that nothing disturbed. INGOT_LONG_SECONDS (60 a test) and INGOT_LONG_SEED set how long
// and which moments; the seed is printed.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "program.h"

namespace ingot::testing {
namespace {

int64_t setting(const char* name, int64_t otherwise) {
  const char* v = std::getenv(name);
  return v && *v ? std::atoll(v) : otherwise;
}

class KillLoop : public CliTest {
 protected:
  void SetUp() override {
    make_model(dir_ / "model", 120);
    std::filesystem::create_directory(dir_ / "fresh");
    const double start = now();
    ASSERT_EQ(ingot(job("fresh")).exit_code, 0);
    alone_ = now() - start;
    std::printf("seed %ld, undisturbed in %.2f s\n", seed_, alone_);
  }

  // Threads and budget differ from start to start: the bytes must not.
  std::vector<std::string> job(const std::string& folder) {
    return {"ship",      dir_ / "model",
            "--type",    "F16,Q8_0,Q4_K_M,Q6_K",
            "--keep",    "merged=" + (dir_ / (folder + "/merged")),
            "--out",     dir_ / (folder + "/{type}.gguf"),
            "--threads", std::to_string(1 + random() % 4),
            "--memory",  std::to_string(32 + random() % 200) + "M"};
  }
  std::vector<std::string> command(const std::string& folder) {
    auto c = job(folder);
    c.insert(c.begin(), INGOT_PROGRAM);
    return c;
  }

  // A kill between the last rename and the exit: the next start finds a finished output, and knows it where the file system keeps notes.
  bool done_before(const Finished& f) const {
    return !keeps_notes(dir_.path()) && f.exit_code == 2 && f.err.find("exists already") != std::string::npos;
  }

  void expect_like_fresh(const std::string& folder) {
    EXPECT_EQ(entries(dir_ / folder), entries(dir_ / "fresh"));
    for (const std::string& name : entries(dir_ / "fresh")) {
      if (name == "merged") continue;
      EXPECT_TRUE(same_bytes(dir_ / ("fresh/" + name), dir_ / (folder + "/" + name))) << name;
    }
    EXPECT_EQ(entries(dir_ / (folder + "/merged")), entries(dir_ / "fresh/merged"));
    for (const std::string& name : entries(dir_ / "fresh/merged"))
      EXPECT_TRUE(same_bytes(dir_ / ("fresh/merged/" + name), dir_ / (folder + "/merged/" + name))) << name;
  }

  uint64_t random() { return generator_(); }
  double uniform(double most) { return most * static_cast<double>(random() >> 11) * 0x1p-53; }

  int64_t seed_ = setting("INGOT_LONG_SEED", 1 + static_cast<int64_t>(::getpid()));
  double until_ = now() + static_cast<double>(setting("INGOT_LONG_SECONDS", 60));
  std::mt19937_64 generator_{static_cast<uint64_t>(seed_)};
  double alone_ = 0;
};

TEST_F(KillLoop, AJobKilledAnywhereEndsWithTheSameBytes) {
  int kills = 0, stops = 0, jobs = 0;
  while (now() < until_ && !HasFailure()) {
    const std::string folder = "job" + std::to_string(jobs);
    std::filesystem::create_directory(dir_ / folder);
    for (int start = 0;; ++start) {
      ASSERT_LT(start, 200) << "no end after 200 starts";
      Child child(command(folder));
      // Nothing is under a final name before all is written and verified; so kills may hit the renames too.
      child.wait_for([](const std::string&) { return false; }, uniform(alone_ * (start < 20 ? 0.5 : 3)));
      const int signal = random() % 4 ? SIGKILL : SIGINT;
      child.send(signal);
      const Finished f = child.finish();
      if (f.exit_code == 0 || done_before(f)) break;
      if (f.exit_code == 4) {
        ++stops;
      } else {
        ASSERT_EQ(f.signal, SIGKILL) << "exit code " << f.exit_code << ": " << f.err;
        ++kills;
      }
    }
    expect_like_fresh(folder);
    std::filesystem::remove_all(dir_ / folder);
    ++jobs;
  }
  std::printf("%d jobs, %d kills, %d interruptions\n", jobs, kills, stops);
  EXPECT_GT(kills, 0);
}

// In place and by a new file: the old bytes or the new ones, and nothing beside them when it is through.
TEST_F(KillLoop, AnEditKilledAnywhereLeavesTheOldFileOrTheNew) {
  int kills = 0, jobs = 0;
  ASSERT_EQ(ingot({"convert", dir_ / "model", "--out", dir_ / "old.gguf"}).exit_code, 0);
  while (now() < until_ && !HasFailure()) {
    const std::string set = ++jobs % 2 ? "general.url=" + std::string(100, 'u') : "llama.rope.freq_base=12345";
    const std::string folder = dir_ / ("edit" + std::to_string(jobs)), file = folder + "/a.gguf", copy = dir_ / ("new" + std::to_string(jobs % 2) + ".gguf");
    std::filesystem::create_directory(folder);
    std::filesystem::copy_file(dir_ / "old.gguf", file);
    if (!exists(copy)) {
      ASSERT_EQ(ingot({"gguf", "edit", file, "--set", set, "--out", copy}).exit_code, 0);
    }
    for (int i = 0;; ++i) {
      ASSERT_LT(i, 200) << "no end after 200 starts";
      Child child({INGOT_PROGRAM, "gguf", "edit", file, "--set", set});
      child.wait_for([](const std::string&) { return false; }, uniform(i < 20 ? alone_ / 4 : 3 * alone_));
      child.send(SIGKILL);
      const Finished f = child.finish();
      if (f.exit_code == 0) break;
      ASSERT_EQ(f.signal, SIGKILL) << "exit code " << f.exit_code << ": " << f.err;
      ++kills;
      ASSERT_TRUE(same_bytes(file, dir_ / "old.gguf") || same_bytes(file, copy)) << folder;
    }
    EXPECT_TRUE(same_bytes(file, copy)) << folder;
    EXPECT_EQ(entries(folder), (std::vector<std::string>{"a.gguf"}));
    std::filesystem::remove_all(folder);
  }
  std::printf("%d jobs, %d kills\n", jobs, kills);
  EXPECT_GT(kills, 0);
}

TEST_F(KillLoop, RanksKilledAndRestartedEndWithTheSameBytes) {
  int kills = 0, jobs = 0;
  while (now() < until_ && !HasFailure()) {
    const std::string folder = "job" + std::to_string(jobs);
    std::filesystem::create_directory(dir_ / folder);
    const int world = 2 + static_cast<int>(random() % 3);
    std::vector<std::unique_ptr<Child>> ranks(world);
    std::vector<bool> done(world, false);
    auto start = [&](int r) {
      SpawnOptions o;
      o.set = {{"RANK", std::to_string(r)}, {"WORLD_SIZE", std::to_string(world)}};
      ranks[r] = std::make_unique<Child>(command(folder), o);
    };
    for (int r = 0; r < world; ++r) start(r);
    // A rank that is killed starts again at once; after some kills all are left alone.
    for (int k = 0; k < 6; ++k) {
      const int r = static_cast<int>(random() % world);
      if (done[r]) continue;
      ranks[r]->wait_for([](const std::string&) { return false; }, uniform(alone_ / 3));
      ranks[r]->send(SIGKILL);
      const Finished f = ranks[r]->finish();
      done[r] = f.exit_code == 0 || done_before(f);
      if (done[r]) continue;
      ASSERT_EQ(f.signal, SIGKILL) << "rank " << r << " of " << world << ": " << f.err;
      ++kills;
      start(r);
    }
    for (int r = 0; r < world; ++r) {
      if (done[r]) continue;
      const Finished f = ranks[r]->finish();
      ASSERT_TRUE(f.exit_code == 0 || done_before(f)) << "rank " << r << " of " << world << ": " << f.err;
    }
    expect_like_fresh(folder);
    std::filesystem::remove_all(dir_ / folder);
    ++jobs;
  }
  std::printf("%d jobs, %d kills\n", jobs, kills);
  EXPECT_GT(kills, 0);
}

}  // namespace
}  // namespace ingot::testing
