#include "cli/subcommands.h"

#include <algorithm>

#include "cli/text.h"

namespace ingot::cli {
namespace {

// "edit, split and merge".
std::string listed(const std::vector<std::string>& names, const char* last) {
  std::string s;
  for (size_t i = 0; i < names.size(); ++i) s += fmt::format("{}{}", i == 0 ? "" : i + 1 == names.size() ? last : ", ", names[i]);
  return s;
}

}  // namespace

Status run_subcommand(Context& c, const std::vector<Subcommand>& all, const std::function<void(Args&)>& describe) {
  const std::string family = c.args.command(), word = c.args.take_word();
  c.report.set_command(c.args.command());
  const auto known = std::find_if(all.begin(), all.end(), [&](const Subcommand& s) { return word == s.name; });
  if (known != all.end() && known->run) return known->run(c);
  describe(c.args);
  std::vector<std::string> names;
  for (const Subcommand& s : all)
    if (s.run) names.push_back(s.name);
  if (word.empty()) {
    INGOT_ASSIGN(const bool go, c.args.parse());
    return go ? Status(usage("'ingot {}' needs a subcommand: {}", family, listed(names, " or "))) : Status();
  }
  if (known != all.end()) return usage("'ingot {} {}' is not there yet in this version of ingot", family, word);
  const std::string near = nearest(word, names);
  return usage("'ingot {}' has no subcommand '{}'; {}there {} {}", family, printable(word), near.empty() ? "" : fmt::format("did you mean {}? ", near), names.size() == 1 ? "is" : "are",
               listed(names, " and "));
}

}  // namespace ingot::cli
