// ingot list: what there is.
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/text.h"

namespace ingot::cli {
Status command_list(Context&) { return {}; }
}
