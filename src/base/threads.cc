#include "base/threads.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <system_error>

namespace ingot {

int thread_count(int64_t wanted) {
  return wanted > 0 ? static_cast<int>(wanted) : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Status guarded(const std::function<Status()>& work) {
  try {
    try {
      return work();
    } catch (const std::bad_alloc&) {
      return failed("out of memory (a limit of this process or container, or of the machine); give a smaller --memory or fewer --threads, or "
                    "free some");
    } catch (const std::exception& e) {
      return failed("internal: {}", e.what());
    }
  } catch (...) {
    return Error{ErrorKind::kFailed, "out of memory"};  // not even for the words above: these need none
  }
}

bool Threads::start(std::function<Status()> work) {
  try {
    threads_.emplace_back([this, work = std::move(work)] {
      Status s = guarded(work);
      if (s.ok()) return;
      std::lock_guard lock(mutex_);
      if (first_.ok()) first_ = std::move(s);
    });
    return true;
  } catch (const std::system_error&) {
    return false;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

Status Threads::join() {
  for (auto& t : threads_) t.join();
  threads_.clear();
  std::lock_guard lock(mutex_);
  return first_;
}

Error Threads::refused(const char* doing) {
  return failed("{}: the system refuses another thread; raise the limit on processes (ulimit -u, a container's pids limit) or on address space "
                "(ulimit -v)", doing);
}

Status run_on_threads(int threads, const std::function<Status()>& work) {
  Threads others;
  for (int i = 1; i < threads; ++i)
    if (!others.start(work)) break;
  Status own = guarded(work);
  Status rest = others.join();
  return own.ok() ? rest : own;
}

Status run_each(int threads, size_t n, const std::function<Status(size_t)>& work) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  size_t least = n;
  Status error;
  const auto run = [&]() -> Status {
    for (size_t i; (i = next++) < n;) {
      Status s = guarded([&] { return work(i); });
      std::lock_guard lock(mutex);
      if (!s.ok() && i < least) least = i, error = std::move(s);
    }
    return {};
  };
  INGOT_TRY(run_on_threads(static_cast<int>(std::min<size_t>(static_cast<size_t>(std::max(threads, 1)), n)), run));
  return error;
}

}  // namespace ingot
