// A user's program against the installed package; see run.sh.
#include <cstdio>

#include "ingot/status.h"

int main() {
  ingot::Status status;
  std::printf("%s\n", status.ok() ? "ok" : status.error().message.c_str());
  return status.ok() ? 0 : 1;
}
