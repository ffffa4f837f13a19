// The signals that say that this machine is about to go, and a deadline by which the process has gone by itself: never killed, whatever the step it is in takes.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/status.h"

namespace ingot::checkpoint {

// One at a time in a process. Whoever listened to a signal before still hears it, unless that would have ended the process; that it does after all where a second one comes
// 30 seconds after the first and nobody has asked. A child of fork() has its signals as they were.
class Preemption {
 public:
  // With `deadline` (seconds after the signal) a thread waits: where the process is still there shortly before it, it ends with exit code 75. A save that is under way
  // goes on until then; nothing is captured in the middle of a step.
  static Result<std::unique_ptr<Preemption>> listen(const std::vector<int>& signals, std::optional<double> deadline);
  // Who listened before listens again.
  ~Preemption();
  Preemption(const Preemption&) = delete;
  Preemption& operator=(const Preemption&) = delete;
  // The signal that came, 0: none.
  static int seen();

 private:
  Preemption() = default;
  void watch(double deadline);
  int wake_ = -1;  // an eventfd: the handler, or the end, writes to it
  std::thread watchdog_;
};

inline constexpr int kPreemptedExitCode = 75;

}  // namespace ingot::checkpoint
