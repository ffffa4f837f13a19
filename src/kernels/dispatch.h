// Which instruction set the kernels use: the best one the machine has, or one forced by a test.
// A kernel is compiled once for each target (foreach_target.h) and every target gives the same bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ingot {

// Values are indices into the tables that INGOT_DISPATCH makes (target_end.h).
enum class Target : int { kScalar = 0, kAvx2 = 1, kAvx512 = 2 };

// The target every kernel call uses now. Cheap: one relaxed atomic load.
Target active_target();

// Names of the targets this machine can run, slowest first; "scalar" is always among them.
std::vector<std::string> supported_targets();

// Makes every kernel use the named target; "" goes back to the best one. False (and nothing changed) when the
// machine cannot run it. The environment variable INGOT_TARGET does the same for a whole process.
bool force_target(std::string_view name);

std::string_view target_name(Target t);

}  // namespace ingot
