#include "checkpoint/preemption.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/clock.h"

namespace ingot::checkpoint {
namespace {

int g_heard = 0;

TEST(Preemption, ASignalIsSeenAndHandedOn) {
  g_heard = 0;
  const auto before = std::signal(SIGUSR1, [](int n) { g_heard = n; });
  {
    auto p = Preemption::listen({SIGUSR1, SIGTERM}, std::nullopt);
    ASSERT_TRUE(p.ok()) << p.error().message;
    EXPECT_EQ((*p)->seen(), 0);
    ::raise(SIGUSR1);
    EXPECT_EQ((*p)->seen(), SIGUSR1);
    EXPECT_EQ(g_heard, SIGUSR1);
    ::raise(SIGTERM);  // would have ended the process
    EXPECT_EQ((*p)->seen(), SIGTERM);
  }
  g_heard = 0;
  ::raise(SIGUSR1);
  EXPECT_EQ(g_heard, SIGUSR1);
  std::signal(SIGUSR1, before);
}

// Several of a process: one that ends takes the signals away from no other.
TEST(Preemption, OneThatEndsLeavesTheOthersListening) {
  auto first = Preemption::listen({SIGUSR1, SIGTERM}, std::nullopt);
  ASSERT_TRUE(first.ok()) << first.error().message;
  auto second = Preemption::listen({SIGUSR1, SIGTERM}, std::nullopt);
  ASSERT_TRUE(second.ok()) << second.error().message;
  first->reset();
  ::raise(SIGTERM);  // would have ended the process
  EXPECT_EQ(Preemption::seen(), SIGTERM);
  // One that comes later has the flag that is set.
  auto third = Preemption::listen({SIGUSR1, SIGTERM}, std::nullopt);
  second->reset();
  EXPECT_EQ(Preemption::seen(), SIGTERM);
}

// Each has its own deadline.
TEST(Preemption, TheShortestDeadlineHolds) {
  const auto start = Clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    auto without = Preemption::listen({SIGTERM}, std::nullopt);
    auto late = Preemption::listen({SIGTERM}, 60.0);
    auto soon = Preemption::listen({SIGTERM}, 1.0);
    if (!without.ok() || !late.ok() || !soon.ok()) ::_exit(1);
    ::raise(SIGTERM);
    for (;;) ::pause();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), kPreemptedExitCode);
  EXPECT_LT(seconds_since(start), 20);
}

// A child that was forked while its parent listened.
TEST(Preemption, AChildMayListenItself) {
  auto p = Preemption::listen({SIGTERM}, std::nullopt);
  ASSERT_TRUE(p.ok());
  const pid_t child = ::fork();
  if (child == 0) {
    (void)p->release();  // the parent's
    auto mine = Preemption::listen({SIGTERM}, std::nullopt);
    ::raise(SIGTERM);
    ::_exit(mine.ok() && Preemption::seen() == SIGTERM ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(Preemption::seen(), 0);
}

// A step that never ends: the process ends before the deadline, with the code for it.
TEST(Preemption, AProcessThatIsLateEndsByItself) {
  const auto start = Clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    auto p = Preemption::listen({SIGTERM}, 1.0);
    if (!p.ok()) ::_exit(1);
    ::raise(SIGTERM);
    for (;;) ::pause();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), kPreemptedExitCode);
  EXPECT_GT(seconds_since(start), 0.5);
}

TEST(Preemption, WithoutASignalNothingEnds) {
  auto p = Preemption::listen({SIGUSR1}, 0.05);
  ASSERT_TRUE(p.ok());
  ::usleep(200'000);
  EXPECT_EQ((*p)->seen(), 0);
}

}  // namespace
}  // namespace ingot::checkpoint
