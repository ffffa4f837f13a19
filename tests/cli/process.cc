// Starting the program, pseudo-terminals, a small terminal.
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>

extern char** environ;

namespace ingot::testing {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

void close_fd(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

// Appends what is there; false at the end of the stream.
bool read_some(int& fd, std::string& into) {
  char buffer[65536];
  const ssize_t n = ::read(fd, buffer, sizeof buffer);
  if (n > 0) {
    into.append(buffer, static_cast<size_t>(n));
    return true;
  }
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  close_fd(fd);  // EIO: the terminal's last user is gone
  return false;
}

}  // namespace

Child::Child(const std::vector<std::string>& arguments, const SpawnOptions& options) {
  start_ = now();
  int out[2] = {-1, -1}, err[2] = {-1, -1}, slave = -1;
  if (options.terminal) {
    terminal_ = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ::grantpt(terminal_);
    ::unlockpt(terminal_);
    slave = ::open(::ptsname(terminal_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    winsize size{};
    size.ws_col = static_cast<unsigned short>(options.columns);
    size.ws_row = 24;
    ::ioctl(slave, TIOCSWINSZ, &size);
  } else if (::pipe2(err, O_CLOEXEC) != 0) {
    return;
  }
  if ((!options.terminal || !options.terminal_stdout) && ::pipe2(out, O_CLOEXEC) != 0) return;
  if (options.close_stdout) close_fd(out[0]);  // before the child can write its first byte
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) ::_exit(126);
    // A test run inside a parallel job is one process all the same.
    for (const char* name : {"RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"}) ::unsetenv(name);
    for (const std::string& name : options.unset) ::unsetenv(name.c_str());
    for (const auto& [name, value] : options.set) ::setenv(name.c_str(), value.c_str(), 1);
    ::setsid();
    if (options.terminal) ::ioctl(slave, TIOCSCTTY, 0);
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(options.terminal ? slave : null, 0);
    ::dup2(out[1] >= 0 ? out[1] : slave, 1);
    ::dup2(options.terminal ? slave : err[1], 2);
    if (options.file_size_limit) {
      const rlimit limit{options.file_size_limit, options.file_size_limit};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    for (const auto& [which, most] : options.limits) {
      const rlimit limit{most, most};
      ::setrlimit(static_cast<__rlimit_resource_t>(which), &limit);
    }
    if (options.user) {
      if (::setgroups(0, nullptr) != 0 || ::setgid(options.user) != 0 || ::setuid(options.user) != 0)
        ::_exit(126);
    }
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  close_fd(out[1]);
  close_fd(err[1]);
  close_fd(slave);
  out_ = out[0];
  err_ = err[0];
}

Child::~Child() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  close_fd(out_);
  close_fd(err_);
  close_fd(terminal_);
}

void Child::send(int signal) { ::kill(pid_, signal); }
void Child::type(const std::string& keys) {
  if (::write(terminal_, keys.data(), keys.size()) < 0) std::perror("pseudo-terminal");
}

bool Child::pump(double seconds) {
  pollfd fds[3];
  int* which[3];
  nfds_t n = 0;
  for (int* fd : {&out_, &err_, &terminal_}) {
    if (*fd < 0) continue;
    which[n] = fd;
    fds[n++] = {*fd, POLLIN, 0};
  }
  if (n == 0) return false;
  if (::poll(fds, n, static_cast<int>(seconds * 1000)) <= 0) return true;
  for (nfds_t i = 0; i < n; ++i)
    if (fds[i].revents) read_some(*which[i], which[i] == &out_ ? result_.out : result_.err);
  return out_ >= 0 || err_ >= 0 || terminal_ >= 0;
}

bool Child::wait_for(const std::function<bool(const std::string&)>& seen, double seconds) {
  const double until = now() + seconds;
  while (!seen(result_.err)) {
    if (now() > until) return false;
    if (!pump(0.02)) return seen(result_.err);
  }
  return true;
}

Finished Child::finish(double seconds) {
  const double until = now() + seconds;
  bool killed = false;
  while (pump(0.05)) {
    if (now() > until && !killed) {
      ::kill(pid_, SIGKILL);
      killed = true;
    }
  }
  int status = 0;
  rusage usage{};
  ::wait4(pid_, &status, 0, &usage);
  pid_ = -1;
  if (WIFEXITED(status)) result_.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  result_.seconds = now() - start_;
  result_.peak_rss_kib = usage.ru_maxrss;
  return result_;
}

Finished ingot(const std::vector<std::string>& arguments, const SpawnOptions& options) {
  std::vector<std::string> all = {INGOT_PROGRAM};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return Child(all, options).finish();
}

Screen render(const std::string& bytes, int columns) {
  Screen s;
  std::vector<std::string> cells;  // of the current line
  size_t column = 0;
  const auto end_line = [&] {
    std::string line;
    for (const std::string& c : cells) line += c;
    line.erase(line.find_last_not_of(' ') + 1);
    s.lines.push_back(line);
    cells.clear();
    column = 0;
  };
  for (size_t i = 0; i < bytes.size();) {
    const unsigned char c = static_cast<unsigned char>(bytes[i]);
    if (c == '\r') {
      column = 0;
      ++s.redraws;
      ++i;
    } else if (c == '\n') {
      end_line();
      ++i;
    } else if (c == 0x1b && i + 1 < bytes.size() && bytes[i + 1] == '[') {
      size_t end = i + 2;
      while (end < bytes.size() && !std::isalpha(static_cast<unsigned char>(bytes[end]))) ++end;
      if (end < bytes.size() && bytes[end] == 'K') cells.resize(std::min(cells.size(), column));
      i = end + 1;
    } else {
      size_t n = 1;
      while (i + n < bytes.size() && (static_cast<unsigned char>(bytes[i + n]) & 0xc0) == 0x80) ++n;
      if (column >= static_cast<size_t>(columns)) {
        s.wrapped = true;
        end_line();
      }
      if (cells.size() <= column) cells.resize(column + 1, " ");
      cells[column++] = bytes.substr(i, n);
      i += n;
    }
  }
  end_line();
  return s;
}

}  // namespace ingot::testing
