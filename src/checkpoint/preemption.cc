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
#include <mutex>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/threads.h"

namespace ingot::checkpoint {
namespace {

constexpr int64_t kUnheard = 30;  // seconds

// What a handler may touch.
std::atomic<int> g_seen{0};
constexpr int kMost = 64;
std::atomic<int> g_wakes[kMost];  // descriptors plus one of those that listen, 0: none
struct sigaction g_before[65];
std::atomic<bool> g_polled{false};
std::atomic<int64_t> g_since{0};  // seconds of the clock when the first came
int g_signals[64];
int g_count = 0;

// What those that begin and end to listen share.
std::mutex g_mutex;
int g_listening = 0;

int64_t seconds_now() {
  struct timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec;
}

// A child has no watchdog and nobody who polls: its signals are what they were, one too that came before this was said. It may listen itself.
std::atomic<int> g_seen_at_fork{0};
void note_fork() {
  g_mutex.lock();
  g_seen_at_fork = g_seen.load();
}
void go_on() { g_mutex.unlock(); }
void give_back() {
  for (int i = 0; i < g_count; ++i) ::sigaction(g_signals[i], &g_before[g_signals[i]], nullptr);
  const bool listened = std::exchange(g_count, 0) != 0;
  g_listening = 0;
  for (std::atomic<int>& wake : g_wakes) wake = 0;
  g_mutex.unlock();
  if (const int came = g_seen; listened && came != g_seen_at_fork) ::raise(came);
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
  for (const std::atomic<int>& wake : g_wakes)
    if (const int fd = wake - 1; fd >= 0) (void)!::write(fd, &one, sizeof one);
  if (was.sa_flags & SA_SIGINFO) {
    if (was.sa_sigaction) was.sa_sigaction(number, info, context);
  } else if (was.sa_handler != SIG_DFL && was.sa_handler != SIG_IGN) {
    was.sa_handler(number);
  }
  errno = saved;
}

// Those that this process listens to are added.
Status listen_to(const std::vector<int>& signals) {
  for (const int s : signals) {
    if (std::find(g_signals, g_signals + g_count, s) != g_signals + g_count) continue;
    struct sigaction mine = {};
    mine.sa_sigaction = handle;
    mine.sa_flags = SA_SIGINFO | SA_RESTART;
    sigfillset(&mine.sa_mask);
    if (s < 1 || s > 64 || ::sigaction(s, nullptr, &g_before[s])) return usage("listening to preemption signals: there is no signal {}", s);
    if (::sigaction(s, &mine, nullptr)) return usage("listening to preemption signals: nobody may listen to signal {}", s);
    g_signals[g_count++] = s;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Preemption>> Preemption::listen(const std::vector<int>& signals, std::optional<double> deadline) {
  std::unique_ptr<Preemption> p(new Preemption());
  {
    std::lock_guard lock(g_mutex);
    static const int registered = ::pthread_atfork(note_fork, go_on, give_back);
    (void)registered;
    if (g_listening++ == 0) g_seen = 0;
    p->wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_ < 0) return failed("listening to preemption signals: {}", std::strerror(errno));
    for (int i = 0; i < kMost && p->slot_ < 0; ++i)
      if (int none = 0; g_wakes[i].compare_exchange_strong(none, p->wake_ + 1)) p->slot_ = i;
    if (p->slot_ < 0) return failed("listening to preemption signals: {} of this process listen already, which is all that there is room for", kMost);
    INGOT_TRY(listen_to(signals));
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
  while (!ending_ && !g_seen) wait(-1);
  // A little before: whoever set the deadline kills then.
  const auto start = Clock::now();
  const double most = std::max(0.0, deadline - std::min(1.0, deadline / 10));
  while (!ending_) {
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
  ending_ = true;
  const uint64_t one = 1;
  if (wake_ >= 0) (void)!::write(wake_, &one, sizeof one);
  if (watchdog_.joinable()) watchdog_.join();
  std::lock_guard lock(g_mutex);
  if (--g_listening == 0) {
    for (int i = 0; i < g_count; ++i) {
      const int s = g_signals[i];
      struct sigaction now;
      // Whoever has taken the signal since keeps it.
      if (::sigaction(s, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handle) ::sigaction(s, &g_before[s], nullptr);
    }
    g_count = 0;
  }
  if (slot_ >= 0) g_wakes[slot_] = 0;
  if (wake_ >= 0) ::close(wake_);
}

}  // namespace ingot::checkpoint
