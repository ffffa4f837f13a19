// The directories above the outputs of a job.
#include "cli/parents.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "storage/store.h"

namespace ingot::cli {

namespace {

// The new entry survives a loss of power, as the output in it does. What cannot be synced is no reason to stop.
void sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)::fsync(fd);
  ::close(fd);
}

}  // namespace

Parents::~Parents() {
  for (auto it = made_.rbegin(); it != made_.rend(); ++it) (void)::rmdir(it->c_str());
}

Status Parents::make(const std::string& output) {
  std::error_code error;
  std::vector<std::string> missing;
  for (std::string p = parent_path(output); !std::filesystem::exists(p, error) && missing.size() < 4096; p = parent_path(p))
    missing.push_back(p);
  for (auto it = missing.rbegin(); it != missing.rend(); ++it) {
    if (::mkdir(it->c_str(), 0777) == 0) {
      made_.push_back(*it);
      sync_directory(parent_path(*it));
    } else if (errno != EEXIST) {  // another process of the same launch may have been first
      return failed("writing '{}': making the directory '{}': {}", output, *it, std::strerror(errno));
    }
  }
  return {};
}

}  // namespace ingot::cli
