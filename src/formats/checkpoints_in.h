// Directories of a run, which hold its checkpoints and no model themselves: which of these is meant, where the directory says it or its framework has a rule.
#pragma once

#include <optional>
#include <string>

#include "formats/formats.h"

namespace ingot {

// What the text `latest` (or latest.txt, last_checkpoint) of a directory names, a file or directory in it: its name, or the number that it ends with. Nothing
// where there is no such text; an error where what it names is not there.
struct LatestName {
  std::string name, text;  // text: the file that says so
  bool directory = false;
};
Result<std::optional<LatestName>> latest_name(Store& store, const Probe& directory);

struct MeantCheckpoint {
  std::string path, notice;
  std::string others;  // "; or give RUN/checkpoint-2", for where it cannot be opened
};
// What `latest` names; else what resuming would take: the greatest number of checkpoint-N (transformers), checkpoint_N (accelerate) or epoch_N (torchtune) that is
// complete; else what lies in checkpoints/ and the like, or the only one. With `strays`, weights that lie there themselves, no more is sought than such a rule
// finds. Nothing where the directory holds no checkpoints; an error that lists them where any would be a guess.
Result<std::optional<MeantCheckpoint>> checkpoint_meant(Store& store, const Probe& directory, bool strays);

// "step-300.pt (2100000000 bytes), step-200.pt and 4 more", the greatest number first.
std::string listed_by_step(Store& store, const std::string& directory, std::vector<std::string> names);

}  // namespace ingot
