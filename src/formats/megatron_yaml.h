// The scalars of one section of a YAML file as a program dumped it: what NeMo and Megatron Bridge write beside a checkpoint. No YAML besides.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace ingot {

// The members one level below `section:` whose value stands on their line, as JSON texts by name. Lines of another form are passed over.
std::map<std::string, std::string> yaml_section(std::string_view text, std::string_view section);

}  // namespace ingot
