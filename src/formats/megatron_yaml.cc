#include "formats/megatron_yaml.h"

#include "formats/json.h"

namespace ingot {
namespace {

std::string_view trimmed(std::string_view s) {
  const size_t first = s.find_first_not_of(" \t\r");
  return first == std::string_view::npos ? std::string_view() : s.substr(first, s.find_last_not_of(" \t\r") + 1 - first);
}

std::string as_json(std::string_view v) {
  if (v == "~" || v == "null" || v == "Null" || v == "NULL") return "null";
  if (v == "true" || v == "True" || v == "TRUE") return "true";
  if (v == "false" || v == "False" || v == "FALSE") return "false";
  if (const auto j = parse_json(v, ""); j.ok() && (finite_number(*j) || j->is_array() || j->is_string())) return std::string(v);
  if (v.size() > 1 && v.front() == '\'' && v.back() == '\'') v = v.substr(1, v.size() - 2);
  return json_quote(v);
}

}  // namespace

std::map<std::string, std::string> yaml_section(std::string_view text, std::string_view section) {
  std::map<std::string, std::string> out;
  bool inside = false;
  size_t level = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t indent = line.find_first_not_of(' ');
    if (indent == std::string_view::npos || line[indent] == '#' || trimmed(line).empty()) continue;
    const std::string_view member = trimmed(line);
    const size_t colon = member.find(':');
    if (indent == 0) {
      inside = colon == section.size() && member.starts_with(section) && colon + 1 == member.size();
      level = 0;
      continue;
    }
    if (!inside) continue;
    if (level == 0) level = indent;
    if (indent != level || colon == std::string_view::npos || colon + 1 >= member.size() || member[colon + 1] != ' ' || member.front() == '-') continue;
    out.emplace(member.substr(0, colon), as_json(trimmed(member.substr(colon + 1))));
  }
  return out;
}

}  // namespace ingot
