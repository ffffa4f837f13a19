// What the file of a PEFT adapter holds, by the names of the base: the grammar of its keys (PEFT's save_and_load.py, utils/other.py), with the adapter's
// name in them or not, and under whatever wrappers the training ran.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/artifact.h"
#include "transform/key_names.h"
#include "transform/lora_config.h"

namespace ingot::transform {

// "model.norm.weight" -> "model.norm".
inline std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

// One module ("model.layers.0.self_attn.q_proj") with factors.
struct LoraModule {
  const LazyTensor* a = nullptr;  // lora_A.weight, or lora_embedding_A
  const LazyTensor* b = nullptr;
  const LazyTensor* b_bias = nullptr;
  bool embedding = false;
  // Where the model ties head and embedding, and the adapter their factors: the head's own, which are to be these, turned; and whether this is the head.
  const LazyTensor *head_a = nullptr, *head_b = nullptr;
  bool shared = false;
};

struct LoraKeys {
  std::map<std::string, LoraModule> modules;
  // By the base's tensor: what replaces it as a whole (modules_to_save, trained biases, embeddings saved along), ...
  std::map<std::string, const LazyTensor*> replaced;
  // ... what the base had there in training (base_layer, original_module): other than our base's where its vocabulary was resized, ...
  std::map<std::string, const LazyTensor*> base_copies;
  // ... and rows of an embedding that were trained (trainable_token_indices), by the module.
  std::map<std::string, const LazyTensor*> token_rows;
  std::string changes;  // PlainNames'
  std::vector<std::string> passed_over;  // keys that PEFT does not load
  // A module of the base, with the name that it had in training.
  ModuleName name(const std::string& module) const;

  std::map<std::string, std::string> trained;  // modules that the file has: the base's name to that in training
};

// `known`: names of tensors that the base has, or that the adapter may bring. Errors: kBadInput for keys that are none of PEFT's, lead to nothing known, or
// hold a tensor twice.
Result<LoraKeys> read_lora_keys(const Artifact& adapter, const KnownName& known);

}  // namespace ingot::transform
