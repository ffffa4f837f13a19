// Session: one sequence being run through a model: its key/value cache and its buffers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "infer/matmul.h"
#include "infer/model.h"

namespace ingot {

enum class Logits { kLast, kAll, kNone };

struct SessionOptions {
  int64_t context = 0;  // most positions; 0 = ModelConfig::usable
  int64_t batch = 512;  // tokens that pass through the layers together
  const CancelToken* cancel = nullptr;
  // Sees the input of every product: [rows, cols] activations that the named tensor is multiplied with.
  std::function<void(std::string_view tensor, const float* x, int64_t rows, int64_t cols)> on_product;
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
  struct LayerCache {
    std::vector<float> keys, values;
  };
  Status check(std::span<const int32_t> tokens) const;
  Status grow(int64_t positions);
  Status run_batch(std::span<const int32_t> tokens, Logits which, float* logits);
  void embed(std::span<const int32_t> tokens);
  void fill_angles(int64_t n);
  Status forward_all(std::span<const int32_t> tokens, Logits which);
  Status products(const float* x, int64_t n, std::initializer_list<Product> list);
  Status attention(int64_t layer, int64_t n);
  Status feed_forward(int64_t layer, int64_t n);
  Status finite(const float* x, int64_t n, const std::string& what, const std::vector<std::string>& tensors) const;
  void norm(const std::vector<float>& weight, const float* x, int64_t n, float* out);

  const Model& model_;
  const ModelConfig& c_;
  SessionOptions options_;
  int64_t context_;
  int64_t position_ = 0;
  int64_t capacity_ = 0;  // positions that the cache has memory for
  int64_t value_stride_ = 0;
  WorkMemory memory_;
  std::vector<LayerCache> cache_;
  // Activations of one batch, [tokens, width].
  std::vector<float> x_, normed_, q_, k_, v_, attended_, gate_, up_, logits_, cos_, sin_;
};

}  // namespace ingot
