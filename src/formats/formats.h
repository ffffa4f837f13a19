// Opening whatever lies at a path: each format looks at the content and gives a score, the best one opens it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/opened_file.h"
#include "tensor/artifact.h"

namespace ingot {

// What a format sees before it says how well it knows the thing.
struct Probe {
  std::string path;
  bool directory = false;
  OpenedFile file;             // not of a directory
  std::vector<Entry> entries;  // of a directory, by name
  const Entry* find(std::string_view name) const;
};
// kBadInput if there is nothing at the path.
Result<Probe> look_at(Store& store, const std::string& path);

// 0: not mine. 100: a magic number of mine. Between: a likeness. Of directories, kConfigScore: a configuration without weights; up to kStrayScore: weights that
// name no model.
inline constexpr int kConfigScore = 20, kStrayScore = 60;
#define FORMAT(name) int probe_##name(const Probe& probe);
#include "formats/formats.def"
#undef FORMAT
// What contradicts itself in a file whose header can be read all the same (tensors that overlap or end beyond the file, bytes
// that belong to nothing) is an error, but for whoever only looks: with `faults` it is told there.
using Faults = std::vector<std::string>;
#define FORMAT(name) Result<Artifact> open_##name(Store& store, const Probe& probe, Faults* faults = nullptr);
#include "formats/formats.def"
#undef FORMAT

// The score of the format that knows best what is there.
int surest_score(const Probe& probe);
// Looks, and opens by the format that knows best what is there; of a directory of checkpoints the one that is meant (checkpoints_in.h). Reads headers only.
// kBadInput if there is nothing, or nothing known, at the path.
Result<Artifact> open_model(Store& store, const std::string& path, Faults* faults = nullptr);

// The names of the formats that can be opened.
std::vector<std::string_view> format_names();

}  // namespace ingot
