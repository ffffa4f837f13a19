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
#include "infer/ops.h"

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
  struct Rotation {  // cosines and sines of a batch, [tokens, pairs]
    std::vector<float> cos, sin;
  };
  void fill_angles(int64_t n, const std::vector<float>& frequencies, Rotation* out) const;
  Status forward_all(std::span<const int32_t> tokens, Logits which);
  Status products(const float* x, int64_t n, std::initializer_list<Product> list);
  Status layer(int64_t layer, int64_t n);
  // x [n, hidden] -> out [n, hidden].
  Status attention(int64_t layer, int64_t n, const float* x, float* out);
  Status project(const LayerWeights& w, int64_t n, const float* x);
  Status feed_forward(const LayerWeights& w, int64_t n, const float* x, float* out);
  struct Gated {
    const LayerWeights::Linear *gate, *up, *down;
  };
  Status dense(const Gated& w, int64_t n, int64_t width, const float* x, float* out);
  Status mixture(const LayerWeights& w, int64_t n, const float* x, float* out);
  Status finite(const float* x, int64_t n, const std::string& what, const std::vector<std::string>& tensors) const;
  void norm(const LayerWeights::Norm& weight, const float* x, int64_t n, float* out);
  // Of rows of `width` elements, where they are.
  void norm_rows(const LayerWeights::Norm& weight, float* x, int64_t rows, int64_t width);
  // Few tokens are not worth waking the threads.
  template <class F>
  void for_each(int64_t n, F f) {
    if (n < 8)
      for (int64_t t = 0; t < n; ++t) f(t);
    else
      model_.pool().parallel_for(n, f);
  }

  const Model& model_;
  const ModelConfig& c_;
  SessionOptions options_;
  int64_t context_;
  int64_t position_ = 0;
  int64_t capacity_ = 0;  // positions that the cache has memory for
  int64_t value_stride_ = 0;
  WorkMemory memory_;
  std::vector<LayerCache> cache_;
  Activation activation_ = Activation::kSilu;
  Rotation usual_, sliding_;
  // Activations of one batch, [tokens, width].
  std::vector<float> x_, normed_, made_, made_too_, q_, k_, v_, qkv_, attended_, gate_, up_, logits_;
  // Of a mixture: probabilities of the experts, rows that one of them gets and gives.
  std::vector<float> routed_, gathered_, given_, shared_;
};

}  // namespace ingot
