// ingot convert ADAPTER --to peft: an adapter as PEFT's directory.
#pragma once

#include <string>

#include "cli/command.h"

namespace ingot::cli {

// `base`: --config-from, the base's directory; may be empty, and so may `dtype`.
Status convert_adapter(Context& context, const std::string& path, const std::string& out, const std::string& dtype, const std::string& base);

}  // namespace ingot::cli
