// Commands that are families: ingot gguf edit|split|merge.
#pragma once

#include <functional>
#include <vector>

#include "cli/command.h"

namespace ingot::cli {

struct Subcommand {
  const char* name;
  Status (*run)(Context&);  // declares its own help; null: of the contract, and not there yet
};

// Runs the one that the first word names. Where there is none, `describe` declares the help of the family.
Status run_subcommand(Context& c, const std::vector<Subcommand>& all, const std::function<void(Args&)>& describe);

}  // namespace ingot::cli
