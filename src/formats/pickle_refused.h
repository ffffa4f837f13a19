// What no pickle of a checkpoint asks for in good faith: functions that run commands or code, load code, or reach files and the network. None would be called
// anyway; a file that asks for them is an attack, and whoever opens it should hear so.
#pragma once

#include <string_view>

namespace ingot {

bool is_refused_global(std::string_view module, std::string_view name);

}  // namespace ingot
