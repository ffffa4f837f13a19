#include "base/threads.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace ingot
