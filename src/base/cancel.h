// Cancellation: a flag that a signal handler or another thread may raise. Long work polls it.
#pragma once

#include <atomic>

namespace ingot {

class CancelToken {
 public:
  void cancel() { flag_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return flag_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> flag_{false};  // lock-free: safe to raise from a signal handler
};

}  // namespace ingot
