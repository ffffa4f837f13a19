// Model: the weights of a Llama-shaped model in memory, each in its own type. Session (session.h) runs it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/cancel.h"
#include "base/thread_pool.h"
#include "infer/config.h"
#include "infer/weights.h"

namespace ingot {

// How quantized weights are multiplied. Float weights are always exact: expanded to f32, summed in f32.
enum class Arithmetic {
  kFast,   // activations rounded to int8 in blocks of 32 where the machine has the instructions
  kExact,  // weights expanded to f32
};

struct LoadOptions {
  int threads = 0;  // 0 = the machine's
  Arithmetic arithmetic = Arithmetic::kFast;
  CancelToken* cancel = nullptr;
  // Called after each layer: bytes of weights loaded so far, and of all of them.
  std::function<void(uint64_t done, uint64_t total)> on_progress;
};

// One layer's weights. Apart from Model so that a run larger than memory can hold one layer at a time.
struct LayerWeights {
  std::vector<float> attn_norm, ffn_norm;
  WeightMatrix q, k, v, attn_output;
  std::vector<float> q_bias, k_bias, v_bias, attn_output_bias;  // empty where the model has none
  WeightMatrix gate, up, down;
};
Result<LayerWeights> load_layer(const Artifact& artifact, const ModelConfig& config, int64_t layer, const ExecOptions& options);

class Model {
 public:
  // The artifact is GGUF-shaped: its tensor names and metadata are those of GGUF.
  static Result<std::unique_ptr<Model>> load(const Artifact& artifact, const LoadOptions& options = {});

  const ModelConfig& config() const { return config_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const WeightMatrix& token_embedding() const { return token_embedding_; }
  const WeightMatrix& output() const { return output_; }
  const std::vector<float>& output_norm() const { return output_norm_; }
  // Angle of one position for each rotated pair, f32.
  const std::vector<float>& rope_frequencies() const { return rope_frequencies_; }
  ThreadPool& pool() const { return *pool_; }

  // For messages: an element as the file that the tensor came from calls it; and the first value that is NaN or infinite
  // in the tensors whose GGUF names begin with one of these, read again, "" if there is none.
  std::string element(const std::string& tensor, const Shape& index) const;
  std::string nonfinite_weight(const std::vector<std::string>& prefixes) const;

 private:
  Model() = default;
  Status load_tensors(const Artifact& artifact, const LoadOptions& options);
  void load_rope(const std::vector<float>& factors);
  void pack(WeightMatrix* w, const LoadOptions& options);

  ModelConfig config_;
  Artifact source_;  // the tensors alone, for messages
  std::vector<LayerWeights> layers_;
  WeightMatrix token_embedding_, output_;
  std::vector<float> output_norm_;
  std::vector<float> rope_frequencies_;
  uint64_t weight_bytes_ = 0;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace ingot
