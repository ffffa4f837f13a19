// Time that only goes forward, for waits and reports.
#pragma once

#include <chrono>

namespace ingot {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

}  // namespace ingot
