// Evaluates models on windows of text, side by side: the perplexity of each, and where there is a reference its divergence from it. States and logits are made a few rows at a
// time, scored and thrown away: there is no file of logits, and none of a whole window in memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "calibrate/divergence.h"
#include "calibrate/texts.h"
#include "infer/model.h"

namespace ingot::calibrate {

// A model as it is known before its weights are read.
struct Candidate {
  std::string name;                       // for messages
  ModelConfig config;                     // with its vocabulary
  uint64_t weights = 0, not_resident = 0;  // bytes that it takes with all layers in memory, and with those that stay in their file
  uint64_t head = 0;                      // of those, what its logits are made of
  std::function<Result<std::unique_ptr<Model>>(bool resident)> load;
};

// models[i] are the scores of the first windows[i] windows, `per_window` of each: of the positions from length / 2 to length - 2, each for the token after it, as llama-perplexity has
// them.
struct Scores {
  int64_t per_window = 0;
  std::vector<std::vector<TokenScore>> models;
  std::vector<int64_t> windows;
};

struct EvaluateOptions {
  uint64_t memory = 0;  // for weights, states and logits; 0: three quarters of what is free, and more where the least is more
  int64_t batch = 512;  // tokens that are multiplied together
  const CancelToken* cancel = nullptr;
  std::function<void(uint64_t done, uint64_t total)> on_progress;  // bytes of weights times windows
  std::function<void(const Scores&)> on_scored;                    // after each few windows
};

// How it is done within the memory. Together: all models are held, and the windows go through each, a few at a time. Else one model after another is read; the reference first, of
// which the states of `kept` windows stay, and what makes logits of them; where those are not all windows, the models are read again for the next ones. A model that does not fit even alone
// stays in its file: its layers are read in turn, for as many windows together as the memory has room for. The figures are the same.
struct EvaluatePlan {
  bool together = false;
  int64_t rows = 1;  // positions whose logits are made together
  int64_t kept = 0;
  struct Pass {
    bool resident = true;
    int64_t at_once = 1;  // windows that pass the layers together
    int64_t reads = 1;    // times that the layers are read
  };
  std::vector<Pass> passes;  // of each candidate
  uint64_t bytes = 0, least = 0;
};
// candidates[0] is the reference where `against` is set: there are others then, and the vocabularies are of one size. kUsage where the least does not fit.
Result<EvaluatePlan> plan_evaluation(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluateOptions& options);

// Also after an error `out` has what was scored before it. Errors name the model.
Status evaluate(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluatePlan& plan, const EvaluateOptions& options, Scores* out);

}  // namespace ingot::calibrate
