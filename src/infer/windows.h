// WindowRunner: texts of one length, each by itself from position 0, through the layers together. What an importance matrix, a perplexity and a divergence need: the layers
// come one after another, each sees all windows before the next one is asked for, so that a model larger than memory is read once for many windows.
// To the bit what a Session gives for each window alone, but for float weights that are multiplied by tiles (bf16_tiles.h): there a session multiplies one token alone in f32.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "infer/forward.h"

namespace ingot {

struct WindowsOptions {
  int64_t batch = 512;  // tokens that are multiplied together; windows shorter than it are put together, longer ones cut
  const CancelToken* cancel = nullptr;
  ProductObserver on_product;
  std::function<void(int64_t done, int64_t total)> on_progress;  // tokens times layers
};

class WindowRunner {
 public:
  explicit WindowRunner(const Model& model, WindowsOptions options = {});

  // `ids`: windows of `length` tokens one after another. What comes after the output norm, [windows, length - first, hidden]: of the positions from `first` on
  // of each. Valid until the next call. Errors: no whole number of windows, a token outside of the vocabulary, a length beyond ModelConfig::usable; kInterrupted.
  Result<std::span<const float>> states(std::span<const int32_t> ids, int64_t length, int64_t first = 0);
  // The logits [rows, vocab] of such states [rows, hidden].
  Status logits(const float* states, int64_t rows, float* out);

  // Bytes that so many windows need at once, beside the weights.
  static uint64_t bytes_of(const ModelConfig& config, int64_t windows, int64_t length, int64_t batch);
  static uint64_t bytes_of(const Model& model, int64_t windows, int64_t length, int64_t batch) { return bytes_of(model.config(), windows, length, batch); }

 private:
  Status run(std::span<const int32_t> ids, int64_t length, int64_t first);

  const Model& model_;
  WindowsOptions options_;
  Forward forward_;
  std::vector<float> x_;
  std::vector<LayerCache> caches_;  // of the windows of a batch, for one layer
};

}  // namespace ingot
