// What the commands over training checkpoints share: the directory that is meant, one checkpoint of it, and how both are shown.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "cli/command.h"
#include "formats/json.h"

namespace ingot::cli {

// Of commands that read whole files, or remove some: --threads and --dry-run are theirs to name.
inline constexpr std::initializer_list<const char*> kForModels = {"--memory", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"};

// DIR as given: a directory of checkpoints, DIR/latest, or one checkpoint's own path.
struct CheckpointDirectory {
  Located at;                            // the directory that holds them
  std::vector<checkpoint::Found> all;    // newest first
  std::string named;                     // "latest", or the name of the checkpoint that was given itself; empty: the directory was

  // The one that is named, or by a step, "latest", or its own name.
  Result<const checkpoint::Found*> pick(const std::string& which) const;
  // Those that are meant: all, or the one that is named.
  Result<std::vector<const checkpoint::Found*>> meant() const;
  // kNotFound.
  Error none(std::string_view what = "checkpoint") const;
};
// None there is an empty list.
Result<CheckpointDirectory> checkpoint_directory(const std::string& given);

// The newest whole one, or the whole one with the least (greatest) value of a metric; null where there is none.
const checkpoint::Found* newest_whole(const std::vector<checkpoint::Found>& all);
const checkpoint::Found* best_whole(const std::vector<checkpoint::Found>& all, const std::string& metric, bool greatest);

std::string metrics_shown(const checkpoint::Metrics& m);
OrderedJson metrics_json(const checkpoint::Metrics& m);
OrderedJson found_json(const checkpoint::Found& f);
std::string age_of(const checkpoint::Found& f);
std::string state_of(const checkpoint::Found& f);

// Of a directory in which ingot has saved none: what others left there, by sizes and headers, or read to its end. kNotFound where that is nothing, kBadInput where one that was read is torn.
Status list_others(Context& c, const CheckpointDirectory& d, bool whole);

// Each with its file.
Status checkpoint_rescue_command(Context& c);
Status checkpoint_diff_command(Context& c);
Status checkpoint_export_command(Context& c);
Status checkpoint_watch_command(Context& c);

}  // namespace ingot::cli
