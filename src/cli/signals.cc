// The signal handlers, and their installation before any library's own start-up code: from .preinit_array, which the loader
// runs first of all. Everything here is async-signal-safe and needs nothing that is initialised at run time.
#include "cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include "base/status.h"

namespace ingot::cli {
namespace {

constinit CancelToken token;

// The first signal asks the work to stop where it can be resumed; the second does not wait for that (a
// resumed run trusts only what it can check, so nothing is lost but time).
extern "C" void on_signal(int) {
  if (token.cancelled()) {
    static const char kText[] = "\r\x1b[Kingot: stopped at once; the same command goes on\n";
    static const char kLogText[] = "ingot: stopped at once; the same command goes on\n";
    const bool terminal = ::isatty(STDERR_FILENO) == 1;
    const ssize_t n = terminal ? ::write(STDERR_FILENO, kText, sizeof kText - 1)
                               : ::write(STDERR_FILENO, kLogText, sizeof kLogText - 1);
    (void)n;
    ::_exit(static_cast<int>(ErrorKind::kInterrupted));
  }
  token.cancel();
}

}  // namespace

CancelToken& stop_token() { return token; }

void install_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  ::sigemptyset(&action.sa_mask);
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before{};
    ::sigaction(s, nullptr, &before);
    // nohup and background jobs of a script have some ignored: leave that.
    if (before.sa_handler != SIG_IGN) ::sigaction(s, &action, nullptr);
  }
  // A write that fails is an error like others, not the end: a closed pipe, a limit on the size of files.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace ingot::cli

// A sanitizer's run time comes later than this section: there main() alone installs them.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define INGOT_LATE_SIGNALS
#endif
#endif
#ifndef INGOT_LATE_SIGNALS
[[gnu::section(".preinit_array"), gnu::used]] static void (*const first_of_all)() = ingot::cli::install_signals;
#endif
#endif
