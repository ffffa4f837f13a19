// Model: the weights of a model in memory, each in its own type. Session (session.h) runs it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/cancel.h"
#include "base/thread_pool.h"
#include "infer/config.h"
#include "infer/weights.h"

namespace ingot {

// How weights are multiplied.
enum class Arithmetic {
  // Where the machine has the instructions: quantized weights with activations rounded to int8 in blocks of 32 (packed.h), float weights with two tokens or more by parts of bf16, which keep
  // sixteen bits (bf16_tiles.h).
  kFast,
  kExact,  // weights expanded to f32, sums in f32: the same bits on every machine
};

struct LoadOptions {
  int threads = 0;  // 0 = the machine's
  Arithmetic arithmetic = Arithmetic::kFast;
  bool resident = true;  // false: the layers stay where they are, and are loaded when they are asked for, the next one while one is used
  CancelToken* cancel = nullptr;
  // Called after each layer: bytes of weights loaded so far, and of all of them.
  std::function<void(uint64_t done, uint64_t total)> on_progress;
};

// One layer's weights; what the architecture does not have is empty. Apart from Model so that a run larger than memory can hold one layer at a time.
struct LayerWeights {
  struct Norm {
    std::vector<float> weight, bias;
    explicit operator bool() const { return !weight.empty(); }
  };
  struct Linear {
    WeightMatrix w;
    std::vector<float> bias;
  };
  Norm attn_norm, q_norm, k_norm, post_attention_norm, ffn_norm, post_ffn_norm;
  Linear q, k, v, qkv, attn_output;
  Linear gate, up, down;
  // Of a mixture: the router, and the matrices of each expert; those of the expert that all tokens pass through.
  WeightMatrix router;
  std::vector<WeightMatrix> expert_gate, expert_up, expert_down;
  Linear shared_gate, shared_up, shared_down;
  std::vector<float> shared_router;
};
Result<LayerWeights> load_layer(const Artifact& artifact, const ModelConfig& config, int64_t layer, const ExecOptions& options);
// Bytes of the tensors in the types that they have, or of their packed forms where those are larger: what a model takes in memory, and what it takes that is not resident (two layers at a time).
uint64_t weight_bytes(const Artifact& artifact, bool resident = true, Arithmetic arithmetic = Arithmetic::kExact);

class LayerStream;  // layer_stream.h

class Model {
 public:
  // The artifact is GGUF-shaped: its tensor names and metadata are those of GGUF.
  static Result<std::unique_ptr<Model>> load(const Artifact& artifact, const LoadOptions& options = {});
  ~Model();

  const ModelConfig& config() const { return config_; }
  // Alive as long as it is held. Of a model that is not resident one at a time should be: the next is on its way.
  Result<std::shared_ptr<const LayerWeights>> layer(int64_t layer) const;
  bool fused_qkv() const { return source_.find("blk.0.attn_qkv.weight") != nullptr; }
  const WeightMatrix& token_embedding() const { return token_embedding_; }
  const WeightMatrix& output() const { return output_; }
  const WeightMatrix& position_embedding() const { return position_embedding_; }  // empty where the model has none
  const LayerWeights::Norm& output_norm() const { return output_norm_; }
  // Angle of one position for each rotated pair, f32: of the layers that see everything, within the original context or beyond it (longrope), and of
  // those with a window.
  enum class Angles { kUsual, kLong, kSliding };
  const std::vector<float>& rope_frequencies(Angles which) const { return rope_frequencies_[static_cast<size_t>(which)]; }
  ThreadPool& pool() const { return *pool_; }
  // Forgets the layers: what is left makes logits of states that were made before.
  void keep_head();

  // For messages: an element as the file that the tensor came from calls it; and the first value that is NaN or infinite
  // in the tensors whose GGUF names begin with one of these, read again, "" if there is none.
  std::string element(const std::string& tensor, const Shape& index) const;
  std::string nonfinite_weight(const std::vector<std::string>& prefixes) const;

 private:
  Model();
  Status load_tensors(const Artifact& artifact, const LoadOptions& options);
  Result<LayerWeights> load_packed(const Artifact& artifact, int64_t layer, const LoadOptions& options, const ExecOptions& exec);
  std::vector<float> make_angles(const std::vector<float>& factors, bool sliding) const;
  void pack(WeightMatrix* w, Arithmetic arithmetic);

  ModelConfig config_;
  Artifact source_;  // the tensors alone, for messages
  std::vector<std::shared_ptr<const LayerWeights>> layers_;  // none of a model that is not resident
  WeightMatrix token_embedding_, position_embedding_, output_;
  LayerWeights::Norm output_norm_;
  std::vector<float> rope_frequencies_[3];
  uint64_t weight_bytes_ = 0;
  bool pack_larger_ = true;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<LayerStream> stream_;  // after the pool, which it packs with
};

}  // namespace ingot
