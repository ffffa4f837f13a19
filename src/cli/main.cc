// The program: finds the command, gives it what it needs, turns its Status into the exit code.
#include <algorithm>
#include <initializer_list>
#include <new>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/peers.h"
#include "cli/signals.h"
#include "cli/text.h"
#include "exec/ranks.h"
#include "formats/json.h"
#include "ingot/ingot.h"

namespace ingot::cli {
namespace {

// The groups of the help, in their order, and what each will have: the rest of the contract (commands.md), refused by name.
enum Group { Start, Make, Try, Look, Train, Move };
struct GroupRow {
  const char* title;
  std::vector<std::string> later;
};
const GroupRow kGroups[] = {{"Start", {}},
                            {"Make", {"merge"}},
                            {"Try", {}},
                            {"Look", {}},
                            {"Train", {}},
                            {"Move", {"push", "pull", "sync", "gc"}}};

struct Row {
  const char* name;
  Group group;
  const char* summary;
  Status (*run)(Context&);
};
constexpr Row kCommands[] = {
#define COMMAND(name, group, summary) {#name, group, summary, &command_##name},
#include "cli/commands.def"
#undef COMMAND
};

std::string overview() {
  std::string out =
      "ingot takes a model from its training files to a file that answers: adapters\n"
      "folded in, converted, quantized, verified and tried, in one pass.\n\n"
      "  ingot ship lora/ --test 'Hello'      # an adapter, on the base that it names\n"
      "  ingot ship org/model Q8_0            # a model of the Hugging Face cache\n"
      "  ingot lora/                          # what lies there, and what fits\n\n"
      "Usage: ingot COMMAND INPUT... [options]\n";
  for (const GroupRow& g : kGroups) {
    out += fmt::format("\n{}\n", g.title);
    for (const Row& c : kCommands)
      if (c.group == &g - kGroups) out += fmt::format("  {:<10} {}\n", c.name, wrap(c.summary, 67, 13));
    if (&g == kGroups) out += "  PATH       (no command) what lies there, and which commands fit\n";
    if (!g.later.empty()) out += fmt::format("  (not there yet: {})\n", join(g.later, ", "));
  }
  out +=
      "\nA model is a directory, a file, or a name like org/model, which 'hf download'\n"
      "puts into the local cache. Help with examples: ingot COMMAND --help\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input, 4 interrupted (the\n"
      "same command goes on), 5 nothing found\n";
  return out;
}

Status no_such_command(const std::string& name) {
  for (const GroupRow& g : kGroups)
    if (std::find(g.later.begin(), g.later.end(), name) != g.later.end())
      return usage("'ingot {}' is not there yet in this version of ingot", name);
  if (const std::string instead = instead_of_program(name); !instead.empty()) return usage("no command '{}'; here it is {}", name, instead);
  std::vector<std::string> names;
  for (const Row& c : kCommands) names.emplace_back(c.name);
  const std::string near = nearest(name, names);
  return usage("no command '{}', and nothing of that name lies here; {}", name,
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
  if (name == "--version" || name == "-V") return report.result({{"version", version()}}, fmt::format("ingot {}\n", version()));
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
  const auto row = std::find_if(std::begin(kCommands), std::end(kCommands), [&](const Row& c) { return name == c.name; });
  const bool known = row != std::end(kCommands);
  if (!known) {
    // A path or a name with a slash is told what is wrong with it; a word that is none is a command with a slip.
    if (name.find('/') == std::string::npos && !is_input(name)) return no_such_command(name);
    words.insert(words.begin(), name);
    name = "PATH";
    report.set_command("path");
  }
  const bool alone = words.empty();
  Args args(name, std::move(words));
  if (known) args.summary(row->summary);
  args.on_parsed([&](const CommonOptions& o, const std::vector<std::string>& unused) -> Status {
    report.configure(mode_of(o.json, o.quiet, o.verbose, silent), &stop_token());
    for (const std::string& option : unused) report.warning(fmt::format("{} changes nothing in 'ingot {}'", option, args.command()));
    // A signal may have come before there was anything to stop.
    return stop_token().cancelled() ? Status(Error{ErrorKind::kInterrupted, "interrupted before anything was done"}) : Status();
  });
  Context context{args, report, stop_token()};
  if (!known) return command_path(context);
  Status status = row->run(context);
  // A command's name alone, in a directory that has something of this name.
  const auto here = locate(name);
  if (!status.ok() && alone && here.ok() && is_there(*here->store, here->path)) {
    Error e = status.take_error();
    e.message += fmt::format("; what lies here under that name: ingot ./{}", name);
    return e;
  }
  return status;
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
