// Options of a command: parsing by CLI11, values, messages and help by us.
#include "cli/args.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/output.h"
#include "cli/peers.h"
#include "cli/text.h"

namespace ingot::cli {

namespace {
constexpr int kHelpWidth = 80, kHelpColumn = 25;
// "-ofreq", as llama.cpp's tools have names, and CLI11 has not: the option's main name stands for it.
bool one_dash(std::string_view name) { return name.size() > 2 && name[0] == '-' && name[1] != '-'; }
}  // namespace

Args::Args(std::string command, std::vector<std::string> words)
    : command_(std::move(command)), words_(std::move(words)) {}

Args::Spec& Args::add(std::string names, std::string value_name, std::string help) {
  Spec s;
  const auto parts = split(names, '|');
  s.names = split(parts[0], ',');
  s.shown = s.names.size();
  if (parts.size() > 1)
    for (auto& n : split(parts[1], ',')) s.names.push_back(n);
  // The main name is the long one.
  if (s.names.size() > 1 && s.shown > 1 && s.names[0].size() == 2) std::swap(s.names[0], s.names[1]);
  s.value_name = std::move(value_name);
  s.help = std::move(help);
  specs_.push_back(std::move(s));
  return specs_.back();
}

void Args::positional(std::string names, std::string* value, std::string help, bool required) {
  text(names, names.substr(0, names.find('|')), value, std::move(help), true);
  specs_.back().is_positional = true, specs_.back().required = required;
}

void Args::rest(std::string names, std::vector<std::string>* words, std::string help) {
  list(names, names, words, std::move(help));
  specs_.back().is_positional = specs_.back().rest = true;
}

void Args::text(std::string names, std::string value_name, std::string* value, std::string help, bool may_be_empty) {
  add(std::move(names), std::move(value_name), std::move(help)).set = [=](const std::string& name, const std::string& v) -> Status {
    if (v.empty() && !may_be_empty) return ingot::usage("{} needs a value, but an empty text is given", name);
    *value = v;
    return {};
  };
}

void Args::list(std::string names, std::string value_name, std::vector<std::string>* values,
                std::string help) {
  Spec& s = add(std::move(names), std::move(value_name), std::move(help));
  s.repeat = true;
  s.set = [values](const std::string&, const std::string& v) {
    values->push_back(v);
    return Status();
  };
}

void Args::integer(std::string names, std::string value_name, int64_t* value, int64_t least, int64_t most,
                   std::string help) {
  add(std::move(names), std::move(value_name), std::move(help)).set = [=](const std::string& name,
                                                                          const std::string& v) -> Status {
    int64_t x = 0;
    auto [p, ec] = std::from_chars(v.data(), v.data() + v.size(), x);
    if (ec != std::errc() || p != v.data() + v.size())
      return ingot::usage("{} takes a whole number, not '{}'", name, v);
    if (x < least || x > most) {
      if (most == INT64_MAX || most >= INT32_MAX)
        return ingot::usage("{} must be at least {}, not {}", name, least, x);
      return ingot::usage("{} must be from {} to {}, not {}", name, least, most, x);
    }
    *value = x;
    return {};
  };
}

void Args::real(std::string names, std::string value_name, double* value, double least, double most,
                std::string help) {
  add(std::move(names), std::move(value_name), std::move(help)).set = [=](const std::string& name,
                                                                          const std::string& v) -> Status {
    double x = 0;
    const char* begin = v.data() + (v.size() > 1 && v[0] == '+');
    auto [p, ec] = std::from_chars(begin, v.data() + v.size(), x);
    if (ec != std::errc() || p != v.data() + v.size() || !std::isfinite(x))
      return ingot::usage("{} takes a number, not '{}'", name, v);
    if (x < least || x > most) {
      if (most > 1e30) return ingot::usage("{} must be at least {}, not {}", name, least, v);
      return ingot::usage("{} must be from {} to {}, not {}", name, least, most, v);
    }
    *value = x;
    return {};
  };
}

void Args::size(std::string names, std::string value_name, uint64_t* value, std::string help, double letter) {
  add(std::move(names), std::move(value_name), std::move(help)).set = [=](const std::string& name,
                                                                          const std::string& v) -> Status {
    auto bytes = parse_size(v, letter);
    if (!bytes.ok()) return ingot::usage("{}: {}", name, bytes.error().message);
    if (*bytes == 0) return ingot::usage("{} must be more than zero", name);
    *value = *bytes;
    return {};
  };
}

void Args::duration(std::string names, std::string value_name, double* seconds, std::string help) {
  add(std::move(names), std::move(value_name), std::move(help)).set = [=](const std::string& name,
                                                                          const std::string& v) -> Status {
    auto s = parse_duration(v);
    if (!s.ok()) return ingot::usage("{}: {}", name, s.error().message);
    if (*s == 0) return ingot::usage("{} must be more than zero", name);
    *seconds = *s;
    return {};
  };
}

void Args::flag(std::string names, bool* value, std::string help) {
  add(std::move(names), "", std::move(help)).set = [value](const std::string&, const std::string&) {
    *value = true;
    return Status();
  };
}

void Args::later(std::string names, bool takes_value, std::string what) {
  Spec& s = add(std::move(names), takes_value ? "VALUE" : "", "");
  s.later = true, s.repeat = true;
  s.set = [what](const std::string& name, const std::string&) -> Status {
    return ingot::usage("{} ({}) is not there yet in this version of ingot; leave it out", name, what);
  };
}

void Args::ignored(const char* names, const char* value_name) {
  Spec& s = add(names, value_name, "");
  s.later = true, s.repeat = true;
  s.set = [](const std::string&, const std::string&) { return Status(); };
  unused_.push_back(std::string_view(names).substr(0, std::string_view(names).find('|')));
}

void Args::add_common() {
  const size_t from = specs_.size();
  integer("--threads|-t", "N", &common.threads, 1, 4096,
          "compute threads (default: as many as the machine has)");
  size("--memory", "SIZE", &common.memory, "bytes for buffers, like 512M, 5GB or 4.5GiB (default: a quarter of what is free)");
  flag("--json", &common.json, "events on stderr, one result object on stdout (docs/json.md)");
  flag("--quiet|-q", &common.quiet, "nothing but errors (and the text or ids that were asked for)");
  flag("-v,--verbose", &common.verbose, "say more: what was opened, assumed and planned, and the time of each phase");
  flag("--dry-run", &common.dry_run, "print the plan (files, sizes, memory) and stop");
  flag("--force", &common.force, "replace an existing output");
  flag("--no-resume", &common.no_resume, "discard an unfinished run instead of going on with it");
  flag("--provenance", &common.provenance,
       "write a manifest into each output: hashes of what it was made from, operations, versions, options, and hashes of its tensors, "
       "which 'ingot verify' compares");
  flag("--strict", &common.strict, "what GGUF cannot say of a model, tensors that its class has not, and NaN that 'ingot verify' finds, is an error, not a notice");
  text("--name|--model-name", "NAME", &common.name, "general.name of a GGUF file (default: the model's own, or that of its directory)");
  integer("--seed|--random-seed,-s", "N", &common.seed, 0, INT64_MAX, "seed of everything random (default 0)");
  size("--max-shard-size|--out-shard-size,--split-max-size", "SIZE", &common.max_shard_size,
       "largest file of a Hugging Face directory (default: 5GB), or of a GGUF model, which is then split (default: one file); 5G is 5GB, 5GiB is more", 1000);
  add("--verify", "HOW", "what was written is read again and compared: medium (default: from the disk itself), cache, none")
      .set = [this](const std::string& name, const std::string& v) -> Status {
    static const std::vector<std::string> kNames = {"medium", "cache", "none"};  // in the order of Verify
    const auto at = std::find(kNames.begin(), kNames.end(), lower(v));
    if (at == kNames.end()) {
      const std::string near = nearest(v, kNames);
      return ingot::usage("{} takes medium, cache or none, not '{}'{}", name, v,
                          near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
    }
    common.verify = static_cast<Verify>(at - kNames.begin());
    return {};
  };
  duration("--rank-timeout", "T", &common.rank_timeout,
           "of several processes on one output: give up after so long without progress, like 30, 30s, 10m or 1h (default 10m)");
  for (size_t i = from; i < specs_.size(); ++i) specs_[i].everywhere = true;
}

bool Args::has(std::string_view main_name) const {
  for (const auto& [name, value] : given_)
    if (name == main_name) return true;
  return false;
}

std::string Args::hint() const { return fmt::format("see: ingot {}--help", command_ == "PATH" ? "" : command_ + " "); }

const Args::Spec* Args::option(std::string_view name) const {
  for (const Spec& s : specs_)
    if (std::find(s.names.begin() + s.is_positional, s.names.end(), name) != s.names.end()) return &s;
  return nullptr;
}

Status Args::check_unknown(const std::string& word) const {
  const std::string name = word.substr(0, word.find('='));
  if (name.size() < 2 || name[0] != '-') return {};
  const std::string what = fmt::format("no option {} in 'ingot {}'", name, command_);
  if (const std::string instead = instead_of_option(name); !instead.empty()) return ingot::usage("{}: {}", what, instead);
  std::vector<std::string> names = {"--help"};
  for (const Spec& s : specs_)
    if (!s.later) names.insert(names.end(), s.names.begin() + s.is_positional, s.names.end());
  const std::string near = name[1] == '-' ? nearest(name, names) : name.size() > 2 ? nearest("-" + name, names) : "";
  return ingot::usage("{}; {}", what, near.empty() ? hint() : fmt::format("did you mean {}?", near));
}

// "-ngl" is not -n with the value "gl", as CLI11 has it: a value is attached where it is a number, and flags may stand together.
Status Args::check_short(const std::string& word) const {
  if (word.size() < 3 || word[0] != '-' || word[1] == '-') return {};
  const auto flag = [&](char c) { return c == 'h' || (option(std::string{'-', c}) && option(std::string{'-', c})->value_name.empty()); };
  const Spec* s = option(word.substr(0, 2));
  const char digit = word[2] == '-' && word.size() > 3 ? word[3] : word[2];
  if (s && !s->value_name.empty() && digit >= '0' && digit <= '9') return {};
  return std::all_of(word.begin() + 1, word.end(), flag) ? Status() : check_unknown(word);
}

// An option by the name that was given, where that is a peer's; else by its main name.
const std::string& Args::spelled(const Spec& s) const {
  for (size_t i = s.shown; !s.is_positional && i < s.names.size(); ++i)
    for (const std::string& w : words_)
      if (w.substr(0, w.find('=')) == s.names[i]) return s.names[i];
  return s.names[0];
}

Status Args::set(const Spec& s, const std::string& value) {
  if (!s.repeat && !s.value_name.empty())
    for (const auto& [name, before] : given_)
      if (name == s.names[0]) return ingot::usage("{} is given twice: '{}' and '{}'", name, before, value);
  INGOT_TRY(s.set(spelled(s), value));
  given_.emplace_back(s.names[0], s.value_name.empty() ? "" : value);
  return {};
}

std::string Args::take_word() {
  if (words_.empty() || words_[0].empty() || words_[0][0] == '-') return "";
  std::string word = words_[0];
  words_.erase(words_.begin());
  command_ += " " + word;
  return word;
}

Result<bool> Args::parse() {
  add_common();
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::vector<std::pair<CLI::Option*, size_t>> options;  // and the index of its spec
  bool help_wanted = false;
  app.add_flag("-h,--help", help_wanted);
  for (size_t i = 0; i < specs_.size(); ++i) {
    const Spec& s = specs_[i];
    std::vector<std::string> names = s.names;
    if (s.is_positional) names.erase(names.begin());
    std::erase_if(names, one_dash);
    if (names.empty()) continue;
    CLI::Option* o;
    if (s.value_name.empty()) {
      o = app.add_flag(join(names, ","))->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    } else {
      o = app.add_option(join(names, ","), [](const CLI::results_t&) { return true; })
              ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
              ->expected(1)
              ->allow_extra_args(false);
    }
    options.emplace_back(o, i);
  }
  // What follows "--" is no option.
  std::vector<std::string> words, plain;
  const auto end = std::find(words_.begin(), words_.end(), "--");
  for (auto w = words_.begin(); w != end; ++w) {
    const size_t equals = w->find('=');
    const Spec* s = option(std::string_view(*w).substr(0, equals));
    if (!s || s->value_name.empty()) {
      if (s && equals != std::string::npos) return ingot::usage("{} takes no value, but '{}' is given", s->names[s->is_positional], *w);
      if (!s) INGOT_TRY(check_short(*w));
      words.push_back(*w);
      continue;
    }
    // Name and value apart: CLI11 takes the next word for the value of "--prompt=", and "=8" for that of "-n=8".
    words.push_back(one_dash(w->substr(0, equals)) ? s->names[s->is_positional] : w->substr(0, equals));
    if (equals == std::string::npos && w + 1 == end) return ingot::usage("{} needs a value; {}", *w, hint());
    words.push_back(equals == std::string::npos ? *++w : w->substr(equals + 1));
  }
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::Error& e) {
    return ingot::usage("{}; {}", e.what(), hint());
  }
  if (help_wanted) {
    INGOT_TRY(print(help()));
    return false;
  }
  for (const std::string& word : app.remaining()) {
    INGOT_TRY(check_unknown(word));
    plain.push_back(word);
  }
  if (end != words_.end()) plain.insert(plain.end(), end + 1, words_.end());

  // Values in the order given, so that --weight can belong to the --adapter before it.
  std::vector<size_t> used(options.size(), 0);
  for (const CLI::Option* o : app.parse_order())
    for (size_t k = 0; k < options.size(); ++k)
      if (options[k].first == o && used[k] < o->results().size()) INGOT_TRY(set(specs_[options[k].second], o->results()[used[k]++]));
  size_t next = 0;
  for (const Spec& s : specs_)
    while (s.is_positional && next < plain.size() && (s.rest || !has(s.names[0]))) INGOT_TRY(set(s, plain[next++]));
  if (next < plain.size())
    return ingot::usage("'{}' is one argument too many for 'ingot {}'; {}", plain[next], command_, too_many_.empty() ? hint() : too_many_);
  for (const Spec& s : specs_)
    if (s.required && !has(s.names[0]))
      return ingot::usage("'ingot {}' needs {} ({}); {}", command_, s.names[0], s.help, hint());
  std::vector<std::string> unused;
  for (const std::string_view name : unused_)
    if (has(name)) unused.emplace_back(name);
  if (on_parsed_) INGOT_TRY(on_parsed_(common, unused));
  return true;
}

std::string Args::help_line(const Spec& s) {
  std::vector<std::string> names(s.names.begin(), s.names.begin() + static_cast<long>(s.shown));
  if (names.size() > 1) std::swap(names[0], names[1]);  // the short one first
  std::string left = "  " + join(names, ", ");
  if (s.is_positional && s.names.size() > 1) left += fmt::format(" (or {})", s.names[1]);
  if (!s.is_positional && !s.value_name.empty()) left += " " + s.value_name;
  left += left.size() + 2 > kHelpColumn ? "\n" + std::string(kHelpColumn, ' ')
                                        : std::string(kHelpColumn - left.size(), ' ');
  // wrap() counts from the column where the help text begins.
  std::string help = wrap(s.help, kHelpWidth - kHelpColumn, 0);
  for (size_t at = 0; (at = help.find('\n', at)) != std::string::npos; at += kHelpColumn + 1)
    help.insert(at + 1, std::string(kHelpColumn, ' '));
  return left + help + "\n";
}

std::string common_help() {
  Args args("COMMAND", {});
  args.add_common();
  std::string out = "Options that commands share; each command's help names those that it heeds:\n\n";
  for (const Args::Spec& s : args.specs_) out += Args::help_line(s);
  return out + "\n" +
         wrap("Started by mpirun, srun or torchrun, the processes share the work on one output: each writes its part, the first one "
              "verifies and reports.",
              kHelpWidth, 0) +
         "\n";
}

std::string Args::help() const {
  std::string out = wrap(fmt::format("ingot {}: {}", command_, summary_), kHelpWidth, 2) + "\n\n";
  for (const std::string& e : examples_) out += "  " + e + "\n";
  if (!examples_.empty()) out += "\n";
  for (size_t i = 0; i < usages_.size(); ++i)
    out += wrap((i ? "       ingot " : "Usage: ingot ") + usages_[i], kHelpWidth, 9) + "\n";
  for (const std::string& d : details_) out += "\n" + wrap(d, kHelpWidth, 0) + "\n";
  bool titled = false;
  std::vector<std::string> everywhere;
  for (const Spec& s : specs_) {
    if (!s.title.empty()) {
      out += "\n" + s.title + ":\n";
      titled = true;
      continue;
    }
    if (s.later) continue;
    if (s.everywhere) {
      if (std::find(unused_.begin(), unused_.end(), s.names[0]) == unused_.end())
        everywhere.push_back(s.names[0] + (s.value_name.empty() ? "" : " " + s.value_name));
      continue;
    }
    if (!titled) {
      out += "\n";
      titled = true;
    }
    out += help_line(s);
  }
  if (!everywhere.empty())
    out += "\n" + wrap("Also: " + join(everywhere, ", ") + " ('ingot help options' explains them)", kHelpWidth, 2) + "\n";
  return out;
}

}  // namespace ingot::cli
