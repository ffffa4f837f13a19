// Ctrl-C and its like raise a flag that all work polls. The handlers are there before anything else of the process runs.
#pragma once

#include "base/cancel.h"

namespace ingot::cli {

// Raised by the first SIGINT, SIGTERM or SIGHUP.
CancelToken& stop_token();

// Does what the loader has done already where it can (signals.cc); harmless twice.
void install_signals();

}  // namespace ingot::cli
