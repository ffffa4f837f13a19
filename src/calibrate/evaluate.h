// Evaluates models on windows of text, side by side: the perplexity of each, and where there is a reference its divergence from it, with no file of logits between.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calibrate/divergence.h"
#include "calibrate/texts.h"
#include "infer/model.h"

namespace ingot::calibrate {

struct EvaluateOptions {
  uint64_t memory = 0;  // for states and logits, beside the weights
  const CancelToken* cancel = nullptr;
  std::function<void(int64_t done, int64_t total)> on_progress;  // tokens times layers, over all models
};

// The scores of each model: [model][window][position]; positions from length / 2 to length - 2 of each window, as llama-perplexity has them.
// `models[0]` is the reference where `against` is set. The models' vocabularies must be of one size then. Errors name the model.
struct Scores {
  int64_t per_window = 0;
  std::vector<std::vector<TokenScore>> models;
};
Result<Scores> evaluate(const std::vector<const Model*>& models, bool against, const TokenWindows& windows, const EvaluateOptions& options);

}  // namespace ingot::calibrate
