#include "base/priority.h"

#include <sys/resource.h>

#include <cerrno>

namespace ingot {

void work_behind() {
  // Linux keeps it for each thread, and a new thread has its maker's.
  errno = 0;
  const int now = ::getpriority(PRIO_PROCESS, 0);
  if (errno == 0 && now < 10) (void)::setpriority(PRIO_PROCESS, 0, 10);
}

}  // namespace ingot
