// Indices are claimed one by one from a ticket. The caller waits for claimed indices only, never for a thread
// that the system has not scheduled. All spin a little before they sleep: a forward pass runs hundreds of
// short loops a token.
#include "base/thread_pool.h"

#include <exception>

#include "base/threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ingot {
namespace {

constexpr int kSpins = 2000;  // some tens of microseconds
constexpr uint64_t kUnclaimed = 0xffffffff;
constexpr int64_t kLongest = 0x7fffffff;

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  threads = thread_count(threads);
  for (int i = 1; i < threads; ++i) {
    try {
      workers_.emplace_back([this, i] { worker(i); });
    } catch (const std::exception&) {  // no thread, or no memory for one
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (auto& t : workers_) t.join();
}

bool ThreadPool::work_on_one(int number) {
  uint64_t t = ticket_.load(std::memory_order_acquire);
  do {
    if ((t & kUnclaimed) == 0) return false;
  } while (!ticket_.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel, std::memory_order_acquire));
  const int64_t n = n_.load(std::memory_order_relaxed);
  call_.load(std::memory_order_relaxed)(fn_.load(std::memory_order_relaxed),
                                        n - static_cast<int64_t>(t & kUnclaimed), number);
  if (done_.fetch_add(1) + 1 == n && caller_sleeps_.load()) {  // sequentially consistent: no wake-up is lost
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    finished_.notify_one();
  }
  return true;
}

void ThreadPool::run(int64_t n, Call call, void* fn) {
  if (n <= 0) return;
  if (workers_.empty() || n == 1 || n > kLongest) {
    for (int64_t i = 0; i < n; ++i) call(fn, i, 0);
    return;
  }
  std::lock_guard<std::mutex> one(callers_);
  call_.store(call, std::memory_order_relaxed);
  fn_.store(fn, std::memory_order_relaxed);
  n_.store(n, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store(number << 32 | static_cast<uint64_t>(n));  // publishes the fields above
  if (sleepers_.load() > 0) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }
  while (work_on_one(0)) {
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done_.load() == n) return;
    relax();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_.store(true);
  finished_.wait(lock, [&] { return done_.load() == n; });
  caller_sleeps_.store(false);
}

void ThreadPool::worker(int number) {
  auto idle = [this] { return (ticket_.load() & kUnclaimed) == 0 && !stop_.load(); };
  for (;;) {
    while (work_on_one(number)) {
    }
    for (int spin = 0; spin < kSpins && idle(); ++spin) relax();
    if (idle()) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return !idle(); });
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
  }
}

}  // namespace ingot
