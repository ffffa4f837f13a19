// What a command is, and what every command gets: its arguments, the reporter, the token that Ctrl-C raises.
#pragma once

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

// One command: declares its options on context.args, calls parse(), does its work, prints. A function named
// command_NAME in NAME.cc, and a row in commands.def.
#define COMMAND(name, summary) Status command_##name(Context& context);
#include "cli/commands.def"
#undef COMMAND

}  // namespace ingot::cli
