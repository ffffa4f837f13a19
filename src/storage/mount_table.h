// The system's table of mounts: which of them a path lies in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ingot {

struct Mounted {
  int64_t id = 0;
  std::string device;  // "0:51"; mounts of one device are the same file system
  std::string root;    // what of the file system is there: "/", or below it for a bind mount
  std::string point, type, source;
};

// The text of /proc/self/mountinfo; a line that is none is passed over.
std::vector<Mounted> parse_mounts(std::string_view mountinfo);
std::vector<Mounted> mounts();
// By the longest mount point above an absolute path, of several on one point the last, which hides the others. Null: none.
const Mounted* mount_above(const std::vector<Mounted>& all, const std::string& path);
// As the kernel has it for a path that is there (a later mount may hide longer points), else mount_above().
const Mounted* mount_of(const std::vector<Mounted>& all, const std::string& path);

}  // namespace ingot
