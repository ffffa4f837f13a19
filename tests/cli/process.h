// The program as a user meets it: started with arguments, its output read through pipes or a pseudo-terminal,
// stopped by signals. And a small terminal that shows what a person would see.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace ingot::testing {

double now();  // seconds of a steady clock

struct SpawnOptions {
  std::string directory = {};                  // of the child; empty: this one's
  std::map<std::string, std::string> set = {};  // environment, over this one's
  std::vector<std::string> unset = {};
  bool terminal = false;        // stderr (and stdout) are a pseudo-terminal
  bool terminal_stdout = true;  // with `terminal`: stdout too, else a pipe
  int columns = 80;
  uint64_t file_size_limit = 0;  // bytes (RLIMIT_FSIZE), 0 = none
  std::map<int, uint64_t> limits = {};  // RLIMIT_NOFILE and the like, soft and hard
  bool close_stdout = false;     // a reader that went away before the first byte
  uid_t user = 0;                // run as this user (needs root), 0 = as we are
};

struct Finished {
  int exit_code = -1;  // -1: ended by `signal`
  int signal = 0;
  std::string out, err;  // with `terminal` all that came from it is in err
  double seconds = 0;
  long peak_rss_kib = 0;
};

class Child {
 public:
  Child(const std::vector<std::string>& arguments, const SpawnOptions& options = {});
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void send(int signal);
  void type(const std::string& keys);  // into the pseudo-terminal, e.g. "\x03"
  // Reads until `seen` of all of stderr so far (or the terminal's text) holds; false when the child ended or
  // `seconds` passed first.
  bool wait_for(const std::function<bool(const std::string& err)>& seen, double seconds = 60);
  // Reads to the end and waits; kills after `seconds`.
  Finished finish(double seconds = 120);
  pid_t pid() const { return pid_; }

 private:
  bool pump(double seconds);  // false at the end of all streams
  pid_t pid_ = -1;
  int out_ = -1, err_ = -1, terminal_ = -1;
  Finished result_;
  double start_ = 0;
};

// The program `ingot` with these arguments, to its end.
Finished ingot(const std::vector<std::string>& arguments, const SpawnOptions& options = {});

// What is on a terminal of `columns` after it got `bytes`. Knows \r, \n, \b, erase to end of line, colours.
struct Screen {
  std::vector<std::string> lines;  // trailing spaces removed, one character a byte or code point
  bool wrapped = false;            // some line was longer than the terminal
  int redraws = 0;                 // carriage returns
};
Screen render(const std::string& bytes, int columns);

}  // namespace ingot::testing
