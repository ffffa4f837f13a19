// The options of one command: declared with their help, then parsed. CLI11 takes the words apart (args.cc
// alone includes it); values, messages, suggestions and the help text are made here.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "exec/executor.h"

namespace ingot::cli {

// Options that every command takes.
struct CommonOptions {
  int64_t threads = 0;  // 0: as many as the machine has
  uint64_t memory = 0;  // bytes; 0: a quarter of what is free
  uint64_t max_shard_size = 0;
  int64_t seed = 0;
  Verify verify = Verify::kMedium;
  std::string name;  // general.name of what is written; empty: the model's own
  double rank_timeout = 600;  // seconds without progress of the other processes before rank 0 gives up
  bool json = false, quiet = false, verbose = false, dry_run = false, force = false, no_resume = false, provenance = false, strict = false;
};

class Args {
 public:
  Args(std::string command, std::vector<std::string> words);

  // What the help says besides the options; several usages and examples may be added.
  void summary(std::string text) { summary_ = std::move(text); }
  void usage(std::string text) { usages_.push_back(std::move(text)); }
  void detail(std::string text) { details_.push_back(std::move(text)); }
  void example(std::string text) { examples_.push_back(std::move(text)); }
  void section(std::string title) { specs_.push_back(Spec{.title = std::move(title)}); }

  // `names` is "--type" or "-n,--n-predict": all of them work, those after a '|' are not shown in the help
  // ("--type|--outtype"). Of a positional the first is its name in texts, and those after the '|' are options that give it too.
  void positional(std::string names, std::string* value, std::string help, bool required = true);
  // Any number of words after the positionals.
  void rest(std::string names, std::vector<std::string>* words, std::string help);
  void text(std::string names, std::string value_name, std::string* value, std::string help, bool may_be_empty = false);
  void list(std::string names, std::string value_name, std::vector<std::string>* values, std::string help);
  void integer(std::string names, std::string value_name, int64_t* value, int64_t least, int64_t most,
               std::string help);
  void real(std::string names, std::string value_name, double* value, double least, double most,
            std::string help);
  void size(std::string names, std::string value_name, uint64_t* value, std::string help, double letter = 1024 /* of parse_size() */);
  void duration(std::string names, std::string value_name, double* seconds, std::string help);
  void flag(std::string names, bool* value, std::string help);
  // A name of the contract whose behaviour comes later: refused by name, with `what` it will do.
  void later(std::string names, bool takes_value, std::string what);
  // An option of a peer's tool that changes nothing here: taken, and warned of. With `value_name` a value follows it.
  void ignored(const char* names, const char* value_name = "");
  // What may be meant by a word after all positionals: the end of a sentence.
  void too_many(std::string text) { too_many_ = std::move(text); }
  // Common options that mean nothing to this command: not in its help, and warned of where they are given.
  void unused(std::initializer_list<const char*> names) { unused_.insert(unused_.end(), names.begin(), names.end()); }

  // Takes the first word (a subcommand: "merge" of `ingot lora merge`) unless it is an option; empty when
  // there is none.
  std::string take_word();

  // False: the help was asked for and printed. Else every value is set, or the error (kUsage) names the
  // option.
  Result<bool> parse();
  // Called by parse() once all options are known to be right; its error is parse()'s. `unused`: of those given.
  using OnParsed = std::function<Status(const CommonOptions&, const std::vector<std::string>& unused)>;
  void on_parsed(OnParsed f) { on_parsed_ = std::move(f); }

  CommonOptions common;
  const std::string& command() const { return command_; }
  // Every option as given, in order: main name and value ("" for a flag).
  const std::vector<std::pair<std::string, std::string>>& given() const { return given_; }
  bool has(std::string_view main_name) const;
  std::string help() const;
  friend std::string common_help();

 private:
  struct Spec {
    std::string title = {};               // a section's heading, nothing else set
    std::vector<std::string> names = {};  // the first is the main name
    size_t shown = 0;
    std::string value_name = {};  // empty for a flag
    std::string help = {};
    std::function<Status(const std::string& name, const std::string& value)> set = {};
    bool repeat = false, is_positional = false, required = false, later = false, everywhere = false, rest = false;
  };
  Spec& add(std::string names, std::string value_name, std::string help);
  void add_common();
  static std::string help_line(const Spec& s);
  const Spec* option(std::string_view name) const;  // by any of its names; null where there is none
  Status check_unknown(const std::string& word) const;
  Status check_short(const std::string& word) const;
  Status set(const Spec& spec, const std::string& value);
  const std::string& spelled(const Spec& spec) const;
  std::string hint() const;

  std::string command_;
  std::vector<std::string> words_;
  std::string summary_, too_many_;
  std::vector<std::string> usages_, details_, examples_;
  std::vector<std::string_view> unused_;
  std::vector<Spec> specs_;
  std::vector<std::pair<std::string, std::string>> given_;
  OnParsed on_parsed_;
};

// The options that every command takes, explained.
std::string common_help();

}  // namespace ingot::cli
