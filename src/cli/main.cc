// The program: finds the command, gives it what it needs, turns its Status into the exit code.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iterator>
#include <new>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/text.h"
#include "exec/ranks.h"
#include "ingot/ingot.h"

namespace ingot::cli {
namespace {

struct Row {
  const char* name;
  const char* summary;
  Status (*run)(Context&);
};
constexpr Row kCommands[] = {
#define COMMAND(name, summary) {#name, summary, &command_##name},
#include "cli/commands.def"
#undef COMMAND
};

// The rest of the contract (commands.md), refused by name.
constexpr const char* kLaterCommands[] = {"merge", "imatrix", "eval",       "diff", "hash", "gguf",
                                          "push",  "pull",    "checkpoint", "sync", "gc",     "doctor"};

CancelToken cancel_token;

// The first signal asks the work to stop where it can be resumed; the second does not wait for that (a
// resumed run trusts only what it can check, so nothing is lost but time).
extern "C" void on_signal(int) {
  if (cancel_token.cancelled()) {
    static const char kText[] = "\r\x1b[Kingot: stopped at once; the same command goes on\n";
    static const char kLogText[] = "ingot: stopped at once; the same command goes on\n";
    const bool terminal = ::isatty(STDERR_FILENO) == 1;
    const ssize_t n = terminal ? ::write(STDERR_FILENO, kText, sizeof kText - 1)
                               : ::write(STDERR_FILENO, kLogText, sizeof kLogText - 1);
    (void)n;
    ::_exit(static_cast<int>(ErrorKind::kInterrupted));
  }
  cancel_token.cancel();
}

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

std::string overview() {
  std::string out =
      "ingot: one tool for a model's files: adapters folded in, formats converted,\n"
      "weights quantized, the result verified and tried, in one pass and little memory.\n\n"
      "Usage: ingot COMMAND INPUT... [--out PATH] [options]\n\n";
  for (const Row& c : kCommands) out += fmt::format("  {:<10} {}\n", c.name, wrap(c.summary, 67, 13));
  out +=
      "\nExample: a base model and a LoRA adapter become a quantized model that is tried:\n"
      "  ingot ship base/ --adapter lora/ --type Q4_K_M --out model.gguf --test 'Hello'\n\n"
      "Help on one command, with examples: ingot COMMAND --help\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input, 4 interrupted (the\n"
      "same command goes on), 5 nothing found\n";
  return out;
}

Status no_such_command(const std::string& name) {
  for (const char* later : kLaterCommands)
    if (name == later) return usage("'ingot {}' is not there yet in this version of ingot", name);
  std::vector<std::string> names;
  for (const Row& c : kCommands) names.emplace_back(c.name);
  const std::string near = nearest(name, names);
  return usage("no command '{}'; {}", name,
               near.empty() ? "'ingot --help' lists them" : fmt::format("did you mean 'ingot {}'?", near));
}

Status dispatch(std::vector<std::string> words, Reporter& report) {
  if (words.empty()) {
    print_error(overview());
    return usage("a command is needed");
  }
  std::string name = words[0];
  words.erase(words.begin());
  if (name == "--version" || name == "-V") return print(fmt::format("ingot {}\n", version()));
  if (name == "--help" || name == "-h" || name == "help") {
    if (words.empty()) return print(overview());
    if (words[0] == "options") return print(common_help());
    name = words[0];
    words.assign(words.begin() + 1, words.end());
    words.emplace_back("--help");
  }
  if (name[0] == '-')
    return usage("options come after the command: ingot COMMAND {} ...; 'ingot --help' lists the commands",
                 name);
  for (const Row& c : kCommands) {
    if (name != c.name) continue;
    Args args(name, std::move(words));
    args.summary(c.summary);
    Context context{args, report, cancel_token};
    return c.run(context);
  }
  return no_such_command(name);
}

int run(int argc, char** argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  Reporter report;
  // Known before parsing, so that wrong usage is reported in the asked form too.
  ReportMode mode = ReportMode::kPlain;
  bool verbose = false;
  for (const std::string& w : words) {
    if (w == "--json") mode = ReportMode::kJson;
    if (w == "--quiet" && mode != ReportMode::kJson) mode = ReportMode::kQuiet;
    if (w == "-v" || w == "--verbose") verbose = true;
  }
  // Of several processes on one output the first one speaks; errors are everyone's.
  if (const auto process = process_rank(); process.ok() && process->rank > 0) mode = ReportMode::kQuiet;
  report.configure(words.empty() ? "" : words[0], mode, verbose, &cancel_token);
  install_signals();
  Status status = dispatch(std::move(words), report);
  report.end_progress();
  if (status.ok()) return 0;
  report.error(status.error());
  return static_cast<int>(status.error().kind);
}

}  // namespace
}  // namespace ingot::cli

int main(int argc, char** argv) {
  try {
    return ingot::cli::run(argc, argv);
  } catch (const std::bad_alloc&) {
    ingot::cli::print_error("ingot: error: out of memory; --memory SIZE lowers what is used\n");
  } catch (const std::exception& e) {
    // None is expected; a report beats a core dump.
    ingot::cli::print_error(std::string("ingot: error: internal: ") + e.what() + "\n");
  }
  return 1;
}
