#include "base/threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <new>

namespace ingot {
namespace {

TEST(Threads, AnExceptionInAWorkerIsAnErrorAndNoAbort) {
  Threads t;
  ASSERT_TRUE(t.start([]() -> Status { throw std::bad_alloc(); }));
  const Status s = t.join();
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("out of memory"), std::string::npos) << s.error().message;
  EXPECT_FALSE(guarded([]() -> Status { throw std::runtime_error("x"); }).ok());
}

TEST(Threads, EachRunsOnceAndTheFirstErrorIsTold) {
  std::atomic<int> runs{0};
  EXPECT_TRUE(run_on_threads(4, [&]() -> Status { ++runs; return {}; }).ok());
  EXPECT_EQ(runs, 4);
  EXPECT_EQ(run_on_threads(3, [&]() -> Status { return usage("no"); }).error().message, "no");
}

TEST(Threads, EachIsRunAndTheErrorIsThatOfTheLeast) {
  for (int threads : {0, 1, 3, 100}) {
    std::vector<std::atomic<int>> runs(20);
    std::atomic<int> at_once{0}, most{0};
    const Status s = run_each(threads, runs.size(), [&](size_t i) -> Status {
      const int now = ++at_once;
      for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {
      }
      ++runs[i];
      // The later one fails first.
      if (i == 7 && threads > 1)
        while (!runs[9]) std::this_thread::yield();
      --at_once;
      if (i == 7) throw std::runtime_error("seven");
      return i == 9 ? Status(usage("nine")) : Status();
    });
    for (const auto& n : runs) EXPECT_EQ(n, 1);
    EXPECT_LE(most, std::max(threads, 1));
    ASSERT_FALSE(s.ok());
    EXPECT_EQ(s.error().message, "internal: seven");
  }
  EXPECT_TRUE(run_each(2, 0, [](size_t) -> Status { return usage("none"); }).ok());
}

}  // namespace
}  // namespace ingot
