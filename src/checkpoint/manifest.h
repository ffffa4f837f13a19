// The commit record of a checkpoint: docs/formats/checkpoint.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "storage/framed.h"

namespace ingot::checkpoint {

inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kStateFile[] = "state.json";
inline constexpr char kMetricsFile[] = "metrics.json";
inline constexpr char kQuarantineFile[] = "quarantine.json";
inline constexpr char kPinnedFile[] = "pinned";
inline constexpr char kWriterFile[] = "writer.json";
inline constexpr int kVersion = 1;
inline constexpr int64_t kMostEpochs = int64_t{1} << 48;

using Metrics = std::map<std::string, double>;

// A file of the checkpoint.
struct Object {
  std::string name;
  uint64_t bytes = 0;
  std::string hash = std::string(32, '0');  // of the tree of its 1 MiB leaves
  std::optional<int64_t> same_as;           // the step of an earlier checkpoint that has these very bytes
  std::optional<uint64_t> frames;           // it is compressed: NAME.frames, of so many bytes (storage/framed.h)
  int64_t generation = 0;                   // of links since its bytes were written; 0: here

  std::string file() const { return frames ? name + kFramesSuffix : name; }  // as it lies in the directory
  uint64_t file_bytes() const { return frames.value_or(bytes); }
};

struct Manifest {
  int64_t step = 0, epoch = 1;
  double time = 0;  // seconds since 1970
  int world = 1;
  std::string run;
  std::optional<int64_t> parent;  // that the run had resumed from
  Metrics metrics;
  std::vector<Object> objects;

  const Object* find(std::string_view name) const;
  std::vector<std::string> files() const;  // as they lie in the directory; this one last
  uint64_t bytes() const;
  uint64_t written() const;  // bytes in the directory that no earlier checkpoint had
};

// As many bytes whatever the hashes, and the sizes of frames, are.
std::string manifest_text(const Manifest& m);
// kBadInput: it is torn or damaged, no manifest, or names what cannot lie in the directory. kUsage: it is whole, and of a newer ingot.
Result<Manifest> parse_manifest(std::string_view text, const std::string& path);

// {"val_loss": 1.25}: numbers; what is not finite as "nan", "inf", "-inf".
std::string metrics_text(const Metrics& m);
// The file of those that came after the commit ends with its own hash, as the manifest does; one without (an older one, one made by hand) is taken as it is.
std::string late_metrics_text(const Metrics& m);
Result<Metrics> parse_late_metrics(std::string_view text, const std::string& path);

}  // namespace ingot::checkpoint
