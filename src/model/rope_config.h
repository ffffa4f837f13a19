// The rotary embedding as config.json describes it, in either of its two places, checked for what contradicts itself.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "formats/json.h"

namespace ingot {

struct RopeConfig {
  std::string type = "default";     // default, linear, yarn or llama3
  Json values = Json::object();     // "rope_parameters" (transformers 5) or "rope_scaling" (older ones)
  std::string place;                // which of the two, for messages
  std::optional<double> factor;     // there for every type but default
  std::optional<double> original_context;  // original_max_position_embeddings; there for yarn and llama3
};

// `model` is the architecture's name and `what` the file's, for messages. kBadInput names the keys and values that no
// reader could follow, or that readers follow in different ways.
Result<RopeConfig> read_rope_config(const Json& config, const std::string& model, const std::string& what);

}  // namespace ingot
