// Small containers: few descriptors, few processes, little address space, short files. Each ends well or with one clear error.
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <filesystem>

#include "base/sanitized.h"
#include "program.h"

namespace ingot::testing {
namespace {

using Limits = CliTest;

std::vector<std::string> quantize(const std::string& model, const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> c = {"quantize", model, "--type", "Q8_0", "--out", out};
  c.insert(c.end(), more.begin(), more.end());
  return c;
}

TEST_F(Limits, FifteenHundredShardsAreReadAndWrittenUnder256Descriptors) {
  make_many_shards(dir_ / "model", 167);
  SpawnOptions few;
  few.limits = {{RLIMIT_NOFILE, 256}};
  const Finished f = ingot(quantize(dir_ / "model", dir_ / "a.gguf"), few);
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const Finished m = ingot({"convert", dir_ / "model", "--dtype", "f32", "--out", dir_ / "again/model", "--max-shard-size", "16K"}, few);
  ASSERT_EQ(m.exit_code, 0) << m.err;
  ASSERT_EQ(ingot(quantize(dir_ / "again/model", dir_ / "b.gguf"), few).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / "b.gguf"));
  EXPECT_GT(entries(dir_ / "again/model").size(), 300u);
  EXPECT_EQ(ingot({"verify", dir_ / "again/model"}, few).exit_code, 0);
}

// As another user than root, who has no limits; of its own, since the limit counts all processes of a user.
TEST_F(Limits, WhereTheSystemRefusesThreadsOneDoesTheWork) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const std::string base = example("tiny-llama-base");
  ASSERT_EQ(ingot(quantize(base, dir_ / "free.gguf")).exit_code, 0);
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0777), 0);
  for (uint64_t processes : {1, 2, 3, 4, 6}) {
    SpawnOptions o;
    o.user = 61234;
    o.limits = {{RLIMIT_NPROC, processes}};
    o.set = {{"ASAN_OPTIONS", "detect_leaks=0"}};  // the search would need a process of its own
    const std::string out = dir_ / fmt::format("n{}.gguf", processes);
    const Finished f = ingot(quantize(base, out, {"--threads", "8"}), o);
    ASSERT_EQ(f.signal, 0) << processes;
    EXPECT_EQ(f.exit_code, 0) << processes << ": " << f.err;
    EXPECT_TRUE(same_bytes(out, dir_ / "free.gguf")) << processes;
  }
}

TEST_F(Limits, LittleAddressSpaceIsEnoughOrAClearError) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer takes the address space for itself";
  const std::string base = example("tiny-llama-base");
  ASSERT_EQ(ingot(quantize(base, dir_ / "free.gguf")).exit_code, 0);
  bool enough = false;
  for (uint64_t mb = 40; mb <= 1000; mb += mb < 200 ? 10 : 100) {
    SpawnOptions o;
    o.limits = {{RLIMIT_AS, mb << 20}};
    for (const char* threads : {"1", "16"}) {
      const std::string out = dir_ / fmt::format("v{}-{}.gguf", mb, threads);
      const Finished f = ingot(quantize(base, out, {"--threads", threads, "--memory", "32M"}), o);
      if (f.exit_code == 127) continue;  // the loader itself had no room
      ASSERT_EQ(f.signal, 0) << mb << " MB, " << threads << " threads: " << f.err;
      if (f.exit_code == 0) {
        enough = true;
        EXPECT_TRUE(same_bytes(out, dir_ / "free.gguf")) << mb;
      } else {
        EXPECT_EQ(f.exit_code, 1) << f.err;
        EXPECT_NE(f.err.find("ingot: error: "), std::string::npos) << f.err;
        EXPECT_FALSE(exists(out));
      }
    }
  }
  EXPECT_TRUE(enough);
}

TEST_F(Limits, AReadOnlyDirectoryIsToldToTheUserWhoMayNotWriteThere) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  std::filesystem::create_directory(dir_ / "closed");
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod((dir_ / "closed").c_str(), 0555), 0);
  SpawnOptions o;
  o.user = 65534;
  const Finished f = ingot(quantize(example("tiny-llama-base"), dir_ / "closed/a.gguf"), o);
  EXPECT_EQ(f.exit_code, 1) << f.err;
  EXPECT_NE(f.err.find("permission"), std::string::npos) << f.err;
  EXPECT_EQ(f.err.find(".ingot-"), std::string::npos) << f.err;
  // A directory that may not be looked into is not taken for one that is not there.
  ASSERT_EQ(::chmod((dir_ / "closed").c_str(), 0700), 0);
  const Finished g = ingot({"inspect", dir_ / "closed/model"}, o);
  EXPECT_EQ(g.err.find("no such file"), std::string::npos) << g.err;
  EXPECT_NE(g.err.find("ermission"), std::string::npos) << g.err;
}

TEST_F(Limits, AFileTooLargeForTheLimitIsToldInTheUsersTerms) {
  SpawnOptions o;
  o.limits = {{RLIMIT_FSIZE, 1 << 20}};
  const Finished f = ingot(quantize(example("tiny-llama-base"), dir_ / "a.gguf"), o);
  EXPECT_EQ(f.exit_code, 1) << f.err;
  EXPECT_NE(f.err.find("ulimit -f"), std::string::npos) << f.err;
  EXPECT_EQ(f.err.find(".ingot-"), std::string::npos) << f.err;
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Limits, ANameOf250BytesIsWritten) {
  const std::string name = std::string(245, 'n') + ".gguf";
  const Finished f = ingot(quantize(example("tiny-llama-base"), dir_ / name));
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_TRUE(empty_but_for(dir_.path(), {name}));
  const Finished g = ingot(quantize(example("tiny-llama-base"), dir_ / (name + "0123456789")));
  EXPECT_NE(g.exit_code, 0);
  EXPECT_NE(g.err.find("the file system takes"), std::string::npos) << g.err;
}

}  // namespace
}  // namespace ingot::testing
