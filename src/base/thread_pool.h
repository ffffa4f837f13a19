// ThreadPool: fixed worker threads for data-parallel loops. The caller works too, so a pool of 1 has no
// thread of its own. Which thread runs which index is not fixed: a result must not depend on it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ingot {

class ThreadPool {
 public:
  // 0 = as many as the machine runs at once. Threads that the system refuses are done without.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // fn(i), or fn(i, thread) with a number below threads() that no other thread of this loop has, for each i in
  // [0, n), in any order, on all threads; returns when all are done. One loop at a time: calls from several
  // threads wait for each other, and a call from inside fn would wait for ever. fn may not throw.
  template <class F>
  void parallel_for(int64_t n, F&& fn) {
    using Fn = std::remove_reference_t<F>;
    run(
        n,
        [](void* f, int64_t i, [[maybe_unused]] int thread) {
          if constexpr (std::is_invocable_v<Fn&, int64_t, int>)
            (*static_cast<Fn*>(f))(i, thread);
          else
            (*static_cast<Fn*>(f))(i);
        },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using Call = void (*)(void*, int64_t, int);
  void run(int64_t n, Call call, void* fn);
  void worker(int number);
  bool work_on_one(int number);

  std::vector<std::thread> workers_;
  std::mutex callers_;  // held by the one loop that runs
  // The loop's number in the upper half, indices not yet claimed in the lower. A claim is a successful
  // decrement; from then until it counts in done_ the fields below are its loop's. A thread that comes late
  // finds nothing to claim, and nobody waits for it.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> fn_{nullptr};
  std::atomic<int64_t> n_{0};
  std::atomic<int64_t> done_{0};

  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
};

}  // namespace ingot
