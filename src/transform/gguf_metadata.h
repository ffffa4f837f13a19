// The metadata of a GGUF file made from config.json, by the rules of the architecture.
#pragma once

#include <functional>
#include <string>

#include "model/model_config.h"
#include "tensor/artifact.h"

namespace ingot::transform {

struct GgufMetadata {
  const Architecture& arch;
  const Json& config;  // of the language model
  const Params& params;
  std::string config_path;
  std::string name;  // general.name; empty: the model's
  std::function<void(const std::string&)> on_notice;                // or none
  std::function<Status(const std::string&)> cannot_say;  // what whoever loads the file will not know of the model
};

// Appends to out->metadata, in the order of llama.cpp's converter, and the tensors of rope scaling before the others. out->tensors are all there, and
// out->path is the model's directory.
Status add_gguf_metadata(const GgufMetadata& m, Artifact* out);

// "tiny-llama-base" -> "Tiny Llama Base", as the reference makes general.name.
std::string title_of(const std::string& id);
// 6816000 -> "6.8M".
std::string size_label(uint64_t parameters);

}  // namespace ingot::transform
