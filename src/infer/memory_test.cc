// Short memory and no threads: an error or fewer threads, never the end of the process. Each case is a child process with
// limits of its own.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "base/sanitized.h"
#include "infer/session.h"
#include "infer/test_models.h"

namespace ingot {
namespace {

using namespace testing_models;

constexpr bool kLimits = !kSanitized;  // sanitizers reserve terabytes of address space

// Address space of this process, in bytes.
uint64_t address_space() {
  unsigned long pages = 0;
  if (FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%lu", &pages) != 1) pages = 0;
    std::fclose(f);
  }
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

void set_limit(uint64_t bytes) {
  rlimit r{};
  ::getrlimit(RLIMIT_AS, &r);
  r.rlim_cur = bytes;
  ::setrlimit(RLIMIT_AS, &r);
}
// What malloc has in store is taken first: it came with the fork.
void leave_free(uint64_t bytes) {
  const uint64_t taken_up = address_space();  // asked once: when all is taken, there is no memory to ask with
  set_limit(taken_up);
  for (size_t size = 1u << 26; size >= 16; size /= 2)
    for (void* volatile taken = std::malloc(size); taken;) taken = std::malloc(size);
  set_limit(taken_up + bytes);
}

enum Outcome { kDone = 0, kRefused = 1, kWrong = 2, kThrew = 3 };
// How `f` ended in a child; -1 if it did not come back.
int in_child(const std::function<Outcome()>& f) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    try {
      ::_exit(f());
    } catch (...) {
      ::_exit(kThrew);
    }
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Outcome outcome_of(const Status& s) {
  if (s.ok()) return kDone;
  const std::string& m = s.error().message;
  const auto says = [&](const char* words) { return m.find(words) != std::string::npos; };
  const bool memory = says("no memory") || says("not enough memory") || says("out of memory");
  if (s.error().kind == ErrorKind::kFailed && memory) return kRefused;
  set_limit(RLIM_INFINITY);
  std::fprintf(stderr, "%s\n", m.c_str());
  return kWrong;
}

// Runs `f` with more and more memory; it is refused at first and done at last, and always comes back. The least is what an
// error needs for its own words.
void with_little_memory(const std::function<Outcome(uint64_t free)>& f) {
  if (!kLimits) GTEST_SKIP() << "the limit does not go with this sanitizer";
  int refused = 0, done = 0;
  for (uint64_t free = 256u << 10; free <= (64u << 20); free += std::max<uint64_t>(32u << 10, free / 4)) {
    const int outcome = in_child([&] { return f(free); });
    ASSERT_TRUE(outcome == kDone || outcome == kRefused) << outcome << " with " << free << " bytes";
    refused += outcome == kRefused, done += outcome == kDone;
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(done, 0);
}

const Size kModel = {.layers = 1, .hidden = 512, .heads = 4, .kv_heads = 4, .head_dim = 64, .ffn = 1024, .vocab = 101, .context = 4096};

TEST(Memory, ALongPromptInLittleMemoryIsAnError) {
  for (const DType type : {DType::kF32, DType::kQ8_0}) {
    const Artifact a = random_model(kModel, type);
    with_little_memory([&](uint64_t free) {
      auto m = Model::load(a, {.threads = 2, .arithmetic = Arithmetic::kExact, .resident = true, .cancel = nullptr, .on_progress = {}});
      if (!m.ok()) return kWrong;
      const std::vector<int32_t> tokens(300, 7);
      Session s(**m);
      leave_free(free);
      auto r = s.forward(tokens);
      return r.ok() ? kDone : outcome_of(r.take_error());
    });
  }
}

TEST(Memory, LoadingInLittleMemoryIsAnError) {
  const Artifact a = random_model(kModel);
  ASSERT_TRUE(architectures().ok());  // read by whoever opens a model, long before its weights: nlohmann's destructors allocate
  with_little_memory([&](uint64_t free) {
    leave_free(free);
    auto m = Model::load(a, {.threads = 1, .arithmetic = Arithmetic::kExact, .resident = true, .cancel = nullptr, .on_progress = {}});
    return m.ok() ? kDone : outcome_of(m.take_error());
  });
}

TEST(Memory, ThreadsThatTheSystemRefusesAreDoneWithout) {
  if (!kLimits) GTEST_SKIP() << "the limit does not go with this sanitizer";
  const Artifact a = random_model({});
  EXPECT_EQ(in_child([&] {
              leave_free(12u << 20);  // a thread's stack takes 8 MiB of it
              auto m = Model::load(a, {.threads = 64, .arithmetic = Arithmetic::kExact, .resident = true, .cancel = nullptr, .on_progress = {}});
              if (!m.ok() || (*m)->pool().threads() >= 64) return kWrong;
              Session s(**m);
              const int32_t tokens[] = {1, 2, 3};
              return s.forward(tokens).ok() ? kDone : kWrong;
            }),
            kDone);
}

}  // namespace
}  // namespace ingot
