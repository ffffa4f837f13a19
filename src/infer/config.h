// ModelConfig: what a model's metadata says about its forward pass, checked. All later code trusts these
// numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/artifact.h"

namespace ingot {

// Which two elements of a head one rotation turns.
enum class RopeKind {
  kInterleaved,  // (2i, 2i + 1): ggml's "norm", after the permutation of q and k rows that GGUF's Llama has
  kHalves,       // (i, i + d/2): ggml's "neox"
};

// Pairs that turn often within the original context keep their frequency, those that turn seldom are divided by rope_scale, the ones
// between are mixed.
struct YarnConfig {
  int64_t original_context = 0;
  float beta_fast = 32.0f, beta_slow = 1.0f;  // turns within it
};

struct ModelConfig {
  std::string architecture;
  RopeKind rope = RopeKind::kInterleaved;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;     // rows of the embedding, filled by Model::load
  int64_t context = 0;   // positions the model was trained for
  int64_t usable = 0;    // positions up to which the engine computes what the model does; context unless `limit` says why not
  std::string limit;     // what ends there, or empty
  int64_t rope_dim = 0;  // leading elements of a head that are rotated
  float rope_base = 10000.0f;
  float rope_scale = 1.0f;  // positions are divided by it ("linear" scaling), or with `yarn` some of them
  std::optional<YarnConfig> yarn;
  bool longrope = false;        // the factors of the pairs are in rope_factors_short.weight, not in rope_freqs.weight
  float rope_magnitude = 1.0f;  // cosines and sines are multiplied by it
  float norm_eps = 1e-5f;

  int64_t q_dim() const { return heads * head_dim; }
  int64_t kv_dim() const { return kv_heads * head_dim; }
  int64_t group() const { return heads / kv_heads; }  // query heads that share a key head
};

// From the metadata of a GGUF-shaped artifact.
Result<ModelConfig> read_model_config(const Artifact& artifact);

}  // namespace ingot
