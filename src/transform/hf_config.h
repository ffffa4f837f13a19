// config.json of the model that a GGUF file tells of: the metadata rules of its architecture, the other way.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/json.h"
#include "model/architecture.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// The class that has all of the file's tensors and what its metadata says of the attention. An error lists what is known.
Result<const Architecture*> hf_architecture(const Artifact& gguf);

struct HfConfig {
  OrderedJson config;
  std::vector<std::string> lost;  // what it cannot say, each a sentence
};
Result<HfConfig> hf_config(const Artifact& gguf, const Architecture& arch);

// A number of the metadata as JSON; of a 32-bit float the shortest decimal that is it again. Nothing: it is no number.
std::optional<OrderedJson> meta_number(const MetaValue& m);

}  // namespace ingot::transform
