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

// The common options that mean nothing to a command which only looks, for Args::unused().
inline constexpr std::initializer_list<const char*> kForWriters = {"--threads", "--memory", "--dry-run", "--force", "--no-resume", "--seed",
                                                                    "--max-shard-size", "--verify", "--rank-timeout", "--provenance",
                                                                    "--strict", "--name"};

// One command: declares its options on context.args, calls parse(), does its work, prints. A function named
// command_NAME in NAME.cc, and a row in commands.def.
#define COMMAND(name, group, summary) Status command_##name(Context& context);
#include "cli/commands.def"
#undef COMMAND
// `ingot PATH`, without a command.
Status command_path(Context& context);

}  // namespace ingot::cli
