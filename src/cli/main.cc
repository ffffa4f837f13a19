// The program: finds the command, gives it what it needs, turns its Status into the exit code.
#include <algorithm>
#include <initializer_list>
#include <new>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/signals.h"
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
constexpr const char* kLaterCommands[] = {"merge", "imatrix", "eval",       "diff",
                                          "gguf",  "push",    "pull",       "checkpoint", "sync", "gc"};

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

ReportMode mode_of(bool json, bool quiet, bool verbose, bool silent) {
  return {json && !silent, quiet || silent, verbose};
}

Status dispatch(std::vector<std::string> words, Reporter& report, bool silent) {
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
    args.on_parsed([&](const CommonOptions& o) -> Status {
      report.configure(mode_of(o.json, o.quiet, o.verbose, silent), &stop_token());
      // A signal may have come before there was anything to stop.
      return stop_token().cancelled() ? Status(Error{ErrorKind::kInterrupted, "interrupted before anything was done"}) : Status();
    });
    Context context{args, report, stop_token()};
    return c.run(context);
  }
  return no_such_command(name);
}

int run(int argc, char** argv) {
  install_signals();
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  Reporter report;
  // Of several processes on one output the first one speaks; errors are everyone's.
  const auto process = process_rank();
  const bool silent = process.ok() && process->rank > 0;
  // Guessed before parsing, so that wrong usage is reported in the asked form too.
  const auto given = [&](std::initializer_list<const char*> names) {
    return std::any_of(words.begin(), words.end(), [&](const std::string& w) {
      return std::find(names.begin(), names.end(), w) != names.end();
    });
  };
  report.configure(mode_of(given({"--json"}), given({"--quiet", "-q"}), given({"-v", "--verbose"}), silent), &stop_token());
  report.set_command(words.empty() ? "" : words[0]);
  Status status = dispatch(std::move(words), report, silent);
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
    ingot::cli::print_error("ingot: error: out of memory (a limit of this process or container, or of the machine); free some, or raise the limit\n");
  } catch (const std::exception& e) {
    // None is expected; a report beats a core dump.
    ingot::cli::print_error(std::string("ingot: error: internal: ") + e.what() + "\n");
  }
  return 1;
}
