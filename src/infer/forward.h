// Forward: one layer at a time over a batch of tokens, which may be of one sequence (session.h) or of several (windows.h). What of a layer a model has is in its
// architecture and its tensors; mixtures of experts are in forward_experts.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "infer/cache.h"
#include "infer/matmul.h"
#include "infer/model.h"
#include "infer/ops.h"

namespace ingot {

// Rows of a batch that are one sequence's: `rows` tokens at positions from `position` on. `cache` has those before, and gets these.
struct Part {
  int64_t rows = 0, position = 0;
  LayerCache* cache = nullptr;
};

// kBadInput, naming the token, where one is outside of the vocabulary.
Status check_tokens(std::span<const int32_t> tokens, const ModelConfig& config);

// Sees the input of a product before it is made: x [rows, w.cols].
using ProductObserver = std::function<void(const WeightMatrix& w, const float* x, int64_t rows)>;

// Not thread-safe; several may run over one model and take turns in its pool.
class Forward {
 public:
  explicit Forward(const Model& model, ProductObserver on_product = {}, CacheTypes cache = {});
  // The bits of a row depend on no other row, with any arithmetic: WorkMemory::one_by_tiles.
  void keep_rows_apart() { memory_.one_by_tiles = true; }

  // Memory for batches of so many rows, of sequences that may come to so many positions: rotations that change beyond an original context go by that.
  void prepare(int64_t rows, int64_t context);
  // Room for so many positions of one layer. Throws std::bad_alloc or std::length_error.
  void grow(LayerCache* cache, int64_t positions) const;
  uint64_t cache_bytes(int64_t positions) const;  // of one layer

  // x [rows, hidden] of the tokens, rows in the order of the parts.
  Status embed(std::span<const int32_t> tokens, std::span<const Part> parts, float* x);
  // x -> x. kBadInput, naming the layer and the weight, where NaN or infinity comes out.
  Status layer(const LayerWeights& w, int64_t layer, std::span<const Part> parts, float* x);
  // The last norm, and the logits [rows, vocab] of what it gave.
  void output_norm(const float* x, int64_t rows, float* out);
  Status logits(const float* normed, int64_t rows, float* out);

 private:
  struct Rotation {  // cosines and sines of a batch, [rows, pairs]
    std::vector<float> cos, sin;
  };
  struct Gated {
    const LayerWeights::Linear *gate, *up, *down;
  };
  void fill_angles(std::span<const Part> parts);
  void fill(std::span<const Part> parts, const std::vector<float>& frequencies, float magnitude, Rotation* out) const;
  Status products(const float* x, int64_t n, std::initializer_list<Product> list);
  // x [n, hidden] -> out [n, hidden].
  Status attention(const LayerWeights& w, int64_t layer, std::span<const Part> parts, int64_t n, const float* x, float* out);
  Status project(const LayerWeights& w, int64_t n, const float* x);
  Status feed_forward(const LayerWeights& w, int64_t n, const float* x, float* out);
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
  bool long_ = false;  // beyond the original context
  ProductObserver on_product_;
  Activation activation_ = Activation::kSilu;
  CacheShape cache_;
  WorkMemory memory_;
  std::vector<std::pair<int64_t, int64_t>> turned_;  // rows and position of the parts that the angles are of
  Rotation usual_, sliding_;
  // Activations of one batch, [rows, width].
  std::vector<float> normed_, made_, made_too_, q_, k_, v_, qkv_, attended_, gate_, up_;
  // Of a mixture: probabilities of the experts, rows that one of them gets and gives.
  std::vector<float> routed_, gathered_, given_, shared_;
};

}  // namespace ingot
