// The subcommands of ingot gguf that have a file of their own.
#pragma once

#include "cli/command.h"
#include "cli/model_args.h"

namespace ingot::cli {

Status gguf_edit_command(Context& context);

}  // namespace ingot::cli
