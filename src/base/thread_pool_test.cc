// Every index runs once, loop after loop, from several callers.
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>

namespace ingot {
namespace {

TEST(ThreadPool, EveryIndexOnce) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t n : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
      for (int round = 1; round <= 50; ++round) {
        pool.parallel_for(n, [&](int64_t i) { ++hits[static_cast<size_t>(i)]; });
        for (auto& h : hits) ASSERT_EQ(h.load(), round);
      }
    }
  }
}

TEST(ThreadPool, NoTwoThreadsHaveTheSameNumber) {
  ThreadPool pool(5);
  std::vector<std::atomic<int>> busy(5);
  std::atomic<int> clashes{0};
  for (int round = 0; round < 50; ++round)
    pool.parallel_for(200, [&](int64_t, int thread) {
      if (busy[static_cast<size_t>(thread)].exchange(1)) ++clashes;
      std::this_thread::yield();
      busy[static_cast<size_t>(thread)] = 0;
    });
  EXPECT_EQ(clashes.load(), 0);
}

TEST(ThreadPool, SleepsAndWakes) {
  ThreadPool pool(3);
  std::atomic<int> n{0};
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough for the workers to sleep
    pool.parallel_for(16, [&](int64_t) { ++n; });
  }
  EXPECT_EQ(n.load(), 320);
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  auto caller = [&] {
    for (int i = 0; i < 200; ++i) pool.parallel_for(10, [&](int64_t k) { sum += k; });
  };
  std::thread a(caller), b(caller);
  a.join();
  b.join();
  EXPECT_EQ(sum.load(), 2 * 200 * 45);
}

}  // namespace
}  // namespace ingot
