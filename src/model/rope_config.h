// The rotary embedding as config.json describes it, in either of its two places, checked for what contradicts itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/json.h"
#include "model/architecture.h"

namespace ingot {

struct RopeConfig {
  std::string type = "default";     // default, linear, dynamic, yarn, longrope or llama3
  Json values = Json::object();     // "rope_parameters" (transformers 5) or "rope_scaling" (older ones)
  std::string place;                // which of the two, for messages
  std::optional<double> factor;     // there for every type but default and longrope
  std::optional<double> original_context;  // original_max_position_embeddings; there for yarn, longrope and llama3
  double magnitude = 1;                // yarn, longrope: what cosines and sines are multiplied by
  double beta_fast = 32, beta_slow = 1;  // yarn: turns within the original context, beyond and below which pairs are not, or wholly, stretched
  std::vector<double> short_factors, long_factors;  // longrope: of each pair, within the original context and beyond it
};

// What yarn multiplies cosines and sines by where nothing else is said.
double yarn_magnitude(double factor, double mscale = 1);

// Of the layers that see everything, where those with a window have their own. `what` is the file's name, for messages. kBadInput names the keys and
// values that no reader could follow, or that readers follow in different ways.
Result<RopeConfig> read_rope_config(const Json& config, const Architecture& arch, const std::string& what);

}  // namespace ingot
