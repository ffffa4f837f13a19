// Session: one sequence being run through a model: its key/value cache and its buffers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "infer/forward.h"

namespace ingot {

enum class Logits { kLast, kAll, kNone };

struct SessionOptions {
  int64_t context = 0;  // most positions; 0 = ModelConfig::usable
  int64_t batch = 512;  // tokens that pass through the layers together
  const CancelToken* cancel = nullptr;
  ProductObserver on_product;
  CacheTypes cache;
};

// Not thread-safe; sessions of one model may run from several threads but take turns in its pool.
class Session {
 public:
  explicit Session(const Model& model, const SessionOptions& options = {});

  // Appends tokens to the sequence. The logits: [vocab] of the last token, or [tokens, vocab] of all; valid
  // until the next call. After an error the sequence is as it was before the call. A full context is an error
  // (kBadInput), checked before anything is computed.
  Result<std::span<const float>> forward(std::span<const int32_t> tokens, Logits which = Logits::kLast);

  int64_t position() const { return position_; }
  int64_t context() const { return context_; }
  const Model& model() const { return model_; }
  // Forgets everything from position n on.
  void truncate(int64_t n) { position_ = std::clamp<int64_t>(n, 0, position_); }

 private:
  Status check(std::span<const int32_t> tokens) const;
  Status grow(int64_t positions);
  Status forward_all(std::span<const int32_t> tokens, Logits which);
  Status run_batch(std::span<const int32_t> tokens, Logits which, float* logits);

  const Model& model_;
  const ModelConfig& c_;
  SessionOptions options_;
  int64_t context_;
  int64_t position_ = 0;
  int64_t capacity_ = 0;  // positions that the cache has memory for
  Forward forward_;
  std::vector<LayerCache> cache_;
  std::vector<float> x_, normed_, logits_;  // of a batch
};

}  // namespace ingot
