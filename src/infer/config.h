// ModelConfig: what a model's metadata says about its forward pass, checked. All later code trusts these
// numbers. The kinds of its layers are the architecture's (data/architectures/*.json).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model_config.h"
#include "tensor/artifact.h"

namespace ingot {

// Pairs that turn often within the original context keep their frequency, those that turn seldom are divided by rope_scale, the ones
// between are mixed.
struct YarnConfig {
  int64_t original_context = 0;
  float beta_fast = 32.0f, beta_slow = 1.0f;  // turns within it
};

// What differs from layer to layer.
struct LayerPlan {
  int64_t window = 0;  // the last tokens that attention sees; 0: all
  bool rope = true;    // whether heads are rotated
  bool sliding_angles = false;  // by the angles of layers with a window
};

struct ModelConfig {
  std::string architecture;
  const Architecture* rules = nullptr;  // tensors and kinds of the layers
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t ffn = 0;
  int64_t experts = 0, experts_used = 0, ffn_expert = 0;  // of a mixture
  int64_t ffn_shared = 0;  // of the expert that every token passes through, or 0
  int64_t vocab = 0;     // rows of the embedding, filled by Model::load
  int64_t context = 0;   // positions the model was trained for
  int64_t usable = 0;    // positions up to which the engine computes what the model does; context unless `limit` says why not
  std::string limit;     // what ends there, or empty
  std::vector<LayerPlan> plan;
  bool parallel = false;  // attention and feed-forward of one input
  int64_t rope_dim = 0;  // leading elements of a head that are rotated
  float rope_base = 10000.0f, rope_base_sliding = 10000.0f;
  float rope_scale = 1.0f;  // positions are divided by it ("linear" scaling), or with `yarn` some of them
  std::optional<YarnConfig> yarn;
  int64_t longrope = 0;         // the original context, where the factors of the pairs are other ones beyond it; 0: none
  float rope_magnitude = 1.0f;  // cosines and sines are multiplied by it
  float norm_eps = 1e-5f;
  float attention_scale = 0, attention_cap = 0, logit_cap = 0;  // a cap of 0: none
  float embedding_scale = 1, residual_scale = 1, logit_scale = 1;

  const LayerKinds& kinds() const { return rules->layer; }
  int64_t q_dim() const { return heads * head_dim; }
  int64_t kv_dim() const { return kv_heads * head_dim; }
  int64_t group() const { return heads / kv_heads; }  // query heads that share a key head
};

// From the metadata of a GGUF-shaped artifact.
Result<ModelConfig> read_model_config(const Artifact& artifact);

}  // namespace ingot
