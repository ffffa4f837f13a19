// The signals that say that this machine is about to go, and a deadline by which the process has gone by itself: never killed, whatever the step it is in takes.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/status.h"

namespace ingot::checkpoint {

// Those of one process share what they have seen; each has its own deadline. Whoever listened to a signal before the first of them still hears it, unless that would have
// ended the process; that it does after all where a second one comes 30 seconds after the first and nobody has asked. A child of fork() has its signals as they were.
class Preemption {
 public:
  // With `deadline` (seconds after the signal) a thread waits: where the process is still there shortly before it, it ends with exit code 75. A save that is under way
  // goes on until then; nothing is captured in the middle of a step.
  static Result<std::unique_ptr<Preemption>> listen(const std::vector<int>& signals, std::optional<double> deadline);
  // After the last of them, who listened before listens again.
  ~Preemption();
  Preemption(const Preemption&) = delete;
  Preemption& operator=(const Preemption&) = delete;
  // The signal that came, 0: none.
  static int seen();

 private:
  Preemption() = default;
  void watch(double deadline);
  int wake_ = -1;  // an eventfd: the handler, or the end, writes to it
  int slot_ = -1;  // where the handler finds it
  std::atomic<bool> ending_{false};
  std::thread watchdog_;
};

inline constexpr int kPreemptedExitCode = 75;

}  // namespace ingot::checkpoint
