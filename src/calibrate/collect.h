// Runs windows of text through a model and sums up the inputs of its products. Stopped at any time, it goes on from what it had to the same bits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "calibrate/importance_matrix.h"
#include "calibrate/texts.h"
#include "infer/model.h"

namespace ingot::calibrate {

struct CollectOptions {
  int64_t batch = 512;  // tokens that are multiplied together
  uint64_t memory = 0;  // bytes for the states of windows that pass together, beside weights and sums; 0: as little as works
  std::string output;  // the name under which the inputs of the output's product are collected; empty: they are not
  // Windows pass in groups that take about so long: what an interruption loses. Where the layers are not resident in memory, at least twice as long as reading them.
  double group_seconds = 5;
  bool resident = true;
  const CancelToken* cancel = nullptr;
  std::function<void(int64_t done, int64_t total)> on_progress;  // tokens, of all windows
  std::function<void()> on_group;                                // `Collected` has one group more
};

// Of the first `windows` windows; whole groups only.
struct Collected {
  ImportanceMatrix sums;
  int64_t windows = 0;
};

// The least memory for states that works.
uint64_t least_states(const ModelConfig& config, int64_t length, int64_t batch);

// Adds the windows that *c has not. After an error (kInterrupted too) it has what it had after the last group. kBadInput, naming the tensor, for sums that are not finite.
Status collect(const Model& model, const TokenWindows& windows, const CollectOptions& options, Collected* c);

}  // namespace ingot::calibrate
