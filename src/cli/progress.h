// The arithmetic of progress: a smoothed rate, time left, and one line of text that fits the terminal. Pure;
// the reporter draws.
#pragma once

#include <cstdint>
#include <string>

#include "exec/executor.h"

namespace ingot::cli {

// Bytes a second, smoothed over a few seconds; what was resumed counts as done, not as work.
class RateMeter {
 public:
  void start(double now, uint64_t done);
  void update(double now, uint64_t done);
  double rate() const { return rate_; }  // 0 until known

 private:
  double last_ = 0, rate_ = 0;
  double start_ = 0;
  uint64_t done_ = 0, start_done_ = 0;
};

const char* phase_verb(Phase p);  // "writing"

struct BarStyle {
  int width = 80;  // columns of the terminal
  bool utf8 = true;
  bool colour = false;
  bool bytes = true;  // what is counted is bytes, and is told
};
// At most style.width - 1 columns, no newline. `seconds_left` < 0: unknown; `verb` instead of the phase's.
std::string bar_line(const Progress& p, double rate, double seconds_left, const BarStyle& style,
                     const char* verb = nullptr);

}  // namespace ingot::cli
