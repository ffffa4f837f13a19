// A library that is loaded into the program (LD_PRELOAD) and presses Ctrl-C from its constructor: long before main().
#include <signal.h>

namespace {
[[gnu::constructor]] void press() { ::raise(SIGINT); }
}  // namespace
