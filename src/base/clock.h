// Time that only goes forward, for waits and reports; and the time of day, for records.
#pragma once

#include <chrono>

namespace ingot {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }
// Seconds since 1970.
inline double unix_time() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace ingot
