// Characters younger than the Unicode tables of the oldest PCRE2 in use.
#pragma once

#include <string>
#include <string_view>

namespace ingot {

// The recent members of a property as PCRE2 names it ("L", "Lu", "L&", "sc:han"). Made to stand
// in a class of PCRE2.
std::string recent_members(std::string_view property);
// Whether `text` (well-formed UTF-8) holds any of them.
bool has_recent_characters(std::string_view text);

}  // namespace ingot
