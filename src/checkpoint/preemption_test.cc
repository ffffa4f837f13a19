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
    EXPECT_FALSE(Preemption::listen({SIGUSR1}, std::nullopt).ok());
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
