// Folding PEFT LoRA adapters into a base model, tensor by tensor as they stream.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

struct AdapterSpec {
  Artifact adapter;   // opened as "peft"
  double weight = 1;  // scales the whole update
};

struct LoraMergeOptions {
  std::function<void(const std::string&)> on_notice;
  std::string name = {};  // of the merged model in its config.json; empty: "base-adapter"
};

// base + sum of weight * s * B A, adapters in order, and what else an adapter's directory brings: whole tensors, embeddings of another vocabulary, trained
// rows, its tokenizer (adapter_files.h). Changed tensors are F32, so that whatever follows rounds once; others pass as they are. The configuration in
// base.files follows (a tied output that was untied, the size of the vocabulary, the name). The base has plain names (key_names.h). Every module of an
// adapter must be one of the base's and every key of its file must be used.
Result<Artifact> lora_merge(const Artifact& base, const std::vector<AdapterSpec>& adapters, const LoraMergeOptions& options = {});

}  // namespace ingot::transform
