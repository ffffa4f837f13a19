// Standard output and the terminal.
#include "cli/output.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "cli/text.h"

namespace ingot::cli {

namespace {

// 0, or the errno of the write that failed.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

std::string environment(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

}  // namespace

Status print(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == EPIPE) {
    // SIGPIPE is ignored while work goes on (main.cc). Nobody reads any more: end as other programs do.
    ::signal(SIGPIPE, SIG_DFL);
    ::raise(SIGPIPE);
  }
  if (error) return failed("writing to standard output: {}", std::strerror(error));
  return {};
}

void print_error(std::string_view text) { (void)write_all(STDERR_FILENO, text); }

bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

bool stderr_can_redraw() {
  const std::string term = environment("TERM");
  return stderr_is_terminal() && !term.empty() && term != "dumb";
}

static int columns_of(int fd) {
  winsize w{};
  return ::ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}
int stderr_width() { return columns_of(STDERR_FILENO); }
int stdout_width() { return stdout_is_terminal() ? columns_of(STDOUT_FILENO) : 0; }

bool want_colour() { return stderr_can_redraw() && environment("NO_COLOR").empty(); }

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string v = lower(environment(name));
    if (!v.empty()) return v.find("utf-8") != std::string::npos || v.find("utf8") != std::string::npos;
  }
  return false;
}

}  // namespace ingot::cli
