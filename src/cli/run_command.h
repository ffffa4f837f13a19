// A command of the user's, run by the shell, while signals to this process go on to it.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/status.h"

namespace ingot::cli {

// The shell's exit code; of one that a signal ended 128 more than its number. When `cancel` is raised the command and what it started get SIGTERM, and are waited for.
// Its standard input is empty; `out_to_stderr`: what it prints goes to standard error, as this program's own standard output is for programs. kFailed where it cannot be started.
Result<int> run_shell(const std::string& command, const CancelToken& cancel, bool out_to_stderr);

// {NAME} replaced by a value, quoted for the shell.
std::string with_word(std::string command, const std::string& name, const std::string& value);

}  // namespace ingot::cli
