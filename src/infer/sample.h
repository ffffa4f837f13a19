// Sampling: from logits to the next token. Greedy by default; random choices are a pure function of (seed,
// step).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace ingot {

struct SampleOptions {
  float temperature = 0.0f;     // 0 = greedy
  int64_t top_k = 0;            // 0 = all
  float top_p = 1.0f;           // 1 = all
  float min_p = 0.0f;           // 0 = all
  float repeat_penalty = 1.0f;  // 1 = none
  int64_t repeat_last = 64;     // tokens that the penalty looks back at
  uint64_t seed = 0;
};
// kUsage when a number is out of its range.
Status check_sample_options(const SampleOptions& options);

// The step-th number in [0, 1) of a seed.
double random_unit(uint64_t seed, uint64_t step);

class Sampler {
 public:
  explicit Sampler(const SampleOptions& options) : options_(options) {}
  // The next token after `history`. The filters run in this order: repeat penalty, top-k, top-p, min-p,
  // temperature. Equal logits rank by their index, the lowest first.
  int32_t next(std::span<const float> logits, std::span<const int32_t> history);

 private:
  struct Candidate {
    float logit;
    int32_t id;
    double p;
  };
  SampleOptions options_;
  uint64_t step_ = 0;
  std::vector<float> adjusted_;
  std::vector<Candidate> candidates_;
};

}  // namespace ingot
