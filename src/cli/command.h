// What a command is, and what every command gets: its arguments, the reporter, the token that Ctrl-C raises.
#pragma once

#include <initializer_list>

#include "base/cancel.h"
#include "base/status.h"
#include "cli/args.h"
#include "cli/reporter.h"

namespace ingot::cli {

struct Context {
  Args& args;
  Reporter& report;
  CancelToken& cancel;
};

// Polled between the steps that come before the work itself: opening, planning.
inline Status go_on(const Context& c) {
  if (c.cancel.cancelled()) return Error{ErrorKind::kInterrupted, "interrupted before anything was written"};
  return {};
}

// Warns of each of these common options that was given and means nothing to the command.
inline void warn_unused(const Context& c, std::initializer_list<const char*> options) {
  for (const char* name : options)
    if (c.args.has(name)) c.report.warning(fmt::format("{} changes nothing in 'ingot {}'", name, c.args.command()));
}

// One command: declares its options on context.args, calls parse(), does its work, prints. A function named
// command_NAME in NAME.cc, and a row in commands.def.
#define COMMAND(name, summary) Status command_##name(Context& context);
#include "cli/commands.def"
#undef COMMAND

}  // namespace ingot::cli
