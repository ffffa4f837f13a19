// What users of llama.cpp's and mergekit's programs write, and what stands for it here.
#pragma once

#include <string>
#include <string_view>

namespace ingot::cli {

// What to do instead of an option ("-ngl") that ingot has not: the end of a sentence. Empty where it is none of theirs.
std::string instead_of_option(std::string_view name);
// The command that does what a program ("llama-quantize") does. Empty where it is none of theirs.
std::string instead_of_program(std::string_view name);

}  // namespace ingot::cli
