#include "checkpoint/preemption.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <poll.h>
#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>

#include "base/clock.h"
#include "base/threads.h"

namespace ingot::checkpoint {
namespace {

constexpr int64_t kUnheard = 30;  // seconds

// What a handler may touch.
std::atomic<int> g_seen{0};
std::atomic<int> g_wake{-1};
struct sigaction g_before[65];
std::atomic<bool> g_ending{false}, g_taken{false}, g_polled{false};
std::atomic<int64_t> g_since{0};  // seconds of the clock when the first came
int g_signals[64];
int g_count = 0;

int64_t seconds_now() {
  struct timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec;
}

// A child has no watchdog and nobody who polls: its signals are what they were, one too that came before this was said.
std::atomic<int> g_seen_at_fork{0};
void note_fork() { g_seen_at_fork = g_seen.load(); }
void give_back() {
  for (int i = 0; i < g_count; ++i) ::sigaction(g_signals[i], &g_before[g_signals[i]], nullptr);
  if (const int came = g_seen; g_count && came != g_seen_at_fork) ::raise(came);
}

void handle(int number, siginfo_t* info, void* context) {
  const int saved = errno;
  const struct sigaction& was = g_before[number];
  if (!g_seen) {
    g_since = seconds_now(), g_polled = false;
  } else if (!g_polled && seconds_now() - g_since >= kUnheard && !(was.sa_flags & SA_SIGINFO) && was.sa_handler == SIG_DFL) {
    // Nobody asks whether a signal came: then it does what it does.
    ::signal(number, SIG_DFL);
    ::raise(number);
    return;
  }
  g_seen = number;
  const uint64_t one = 1;
  if (const int fd = g_wake; fd >= 0) (void)!::write(fd, &one, sizeof one);
  if (was.sa_flags & SA_SIGINFO) {
    if (was.sa_sigaction) was.sa_sigaction(number, info, context);
  } else if (was.sa_handler != SIG_DFL && was.sa_handler != SIG_IGN) {
    was.sa_handler(number);
  }
  errno = saved;
}

}  // namespace

Result<std::unique_ptr<Preemption>> Preemption::listen(const std::vector<int>& signals, std::optional<double> deadline) {
  if (g_taken.exchange(true)) return usage("another checkpointer of this process listens to preemption signals already; give signals=False to one of them");
  std::unique_ptr<Preemption> p(new Preemption());
  g_seen = 0, g_ending = false, g_count = 0;
  static const int registered = ::pthread_atfork(note_fork, nullptr, give_back);
  (void)registered;
  p->wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (p->wake_ < 0) return failed("listening to preemption signals: {}", std::strerror(errno));
  g_wake = p->wake_;
  for (const int s : signals) {
    struct sigaction mine = {};
    mine.sa_sigaction = handle;
    mine.sa_flags = SA_SIGINFO | SA_RESTART;
    sigfillset(&mine.sa_mask);
    if (s < 1 || s > 64 || ::sigaction(s, nullptr, &g_before[s])) return usage("listening to preemption signals: there is no signal {}", s);
    if (::sigaction(s, &mine, nullptr)) return usage("listening to preemption signals: nobody may listen to signal {}", s);
    if (g_count < 64) g_signals[g_count++] = s;
  }
  if (deadline) {
    try {
      p->watchdog_ = std::thread([preemption = p.get(), d = *deadline] { preemption->watch(d); });
    } catch (const std::system_error&) {
      return Threads::refused("listening to preemption signals");
    }
  }
  return p;
}

void Preemption::watch(double deadline) {
  const auto wait = [&](int milliseconds) {
    struct pollfd f = {wake_, POLLIN, 0};
    uint64_t n = 0;
    if (::poll(&f, 1, milliseconds) > 0) (void)!::read(wake_, &n, sizeof n);
  };
  while (!g_ending && !g_seen) wait(-1);
  // A little before: whoever set the deadline kills then.
  const auto start = Clock::now();
  const double most = std::max(0.0, deadline - std::min(1.0, deadline / 10));
  while (!g_ending) {
    const double left = most - seconds_since(start);
    if (left <= 0) ::_exit(kPreemptedExitCode);
    wait(static_cast<int>(std::min(left, 3600.0) * 1000) + 1);
  }
}

int Preemption::seen() {
  if (g_seen) g_polled = true;
  return g_seen;
}

Preemption::~Preemption() {
  for (int i = 0; i < g_count; ++i) {
    const int s = g_signals[i];
    struct sigaction now;
    // Whoever has taken the signal since keeps it.
    if (::sigaction(s, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handle) ::sigaction(s, &g_before[s], nullptr);
  }
  g_ending = true, g_count = 0;
  const uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
  if (watchdog_.joinable()) watchdog_.join();
  g_wake = -1;
  ::close(wake_);
  g_taken = false;
}

}  // namespace ingot::checkpoint
