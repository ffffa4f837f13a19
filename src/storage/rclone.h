// An rclone that serves a mount: its process, what its command line says of cache and queue, and its remote control. What its answers mean is for others.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace ingot {

struct RcloneMount {
  pid_t process = 0;
  bool caches = false;          // what is closed is uploaded later: --vfs-cache-mode writes or full
  std::string cache;            // --cache-dir
  std::optional<uint64_t> cap;  // --vfs-cache-max-size in bytes; none: no limit
  std::string log;              // --log-file; empty: none
  std::string control;          // --rc's address, "localhost:5572" or "/run/rclone.sock"; empty: it listens to nobody
};

// Of a command line, an environment and a working directory as /proc/PID has them; nothing where they are no rclone's that mounts on one of `points`.
std::optional<RcloneMount> parse_rclone(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment, const std::string& cwd,
                                        const std::vector<std::string>& points);
// Among the processes that this one can see. Nothing: there is none (in a container those of the host are out of sight).
std::optional<RcloneMount> find_rclone(const std::vector<std::string>& points);
// One call of the remote control ("vfs/stats"), JSON in and out; addresses of this machine alone. kFailed where it gives no answer, or not to us.
Result<std::string> ask_rclone(const std::string& control, const std::string& what, const std::string& json);
// The last `bytes` of its log, or all of it.
std::string tail_of(const std::string& path, uint64_t bytes);

}  // namespace ingot
