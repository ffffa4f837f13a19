// Threads: a handful of threads that each run one function to its end. No exception leaves one (a std::bad_alloc is an Error), and a
// thread that the system refuses (ulimit -u, ulimit -v, a container's limit on processes) is not an abort.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"

namespace ingot {

// As many as are asked for, or, for 0, as the machine has.
int thread_count(int64_t wanted);

// What `work` returns, or the Error for what it throws.
Status guarded(const std::function<Status()>& work);

class Threads {
 public:
  Threads() = default;
  ~Threads() { (void)join(); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // False when the system refuses another thread.
  bool start(std::function<Status()> work);
  size_t size() const { return threads_.size(); }
  // Waits for all. The first error of any of them.
  Status join();
  // What to tell where not one could be started.
  static Error refused(const char* doing);

 private:
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  Status first_;
};

// Runs `work` on up to `threads` threads, this one among them; fewer where the system refuses more. The first error.
Status run_on_threads(int threads, const std::function<Status()>& work);
// work(0) to work(n - 1), each once, up to `threads` of them at a time. All are run; the error is that of the least i, whoever met
// one first.
Status run_each(int threads, size_t n, const std::function<Status(size_t i)>& work);

}  // namespace ingot
