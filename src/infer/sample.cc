// The filters keep a prefix of the candidates sorted by logit; the choice walks their cumulated probability.
#include "infer/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ingot {

Status check_sample_options(const SampleOptions& o) {
  if (!(o.temperature >= 0) || std::isinf(o.temperature))
    return usage("--temperature is {}; expected 0 (greedy) or more", o.temperature);
  if (o.top_k < 0) return usage("--top-k is {}; expected 0 (all) or more", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1)) return usage("--top-p is {}; expected more than 0, at most 1", o.top_p);
  if (!(o.min_p >= 0 && o.min_p <= 1)) return usage("--min-p is {}; expected 0 to 1", o.min_p);
  if (!(o.repeat_penalty > 0) || std::isinf(o.repeat_penalty))
    return usage("--repeat-penalty is {}; expected more than 0 (1 = none)", o.repeat_penalty);
  if (o.repeat_last < 0) return usage("the penalty's window is {}; expected 0 or more", o.repeat_last);
  return Status();
}

// SplitMix64's finalizer over a Weyl sequence, twice so that neighbouring seeds share nothing.
double random_unit(uint64_t seed, uint64_t step) {
  auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
  };
  const uint64_t key = mix(seed + UINT64_C(0x9e3779b97f4a7c15));
  const uint64_t bits = mix(key + (step + 1) * UINT64_C(0x9e3779b97f4a7c15));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

int32_t Sampler::next(std::span<const float> logits, std::span<const int32_t> history) {
  if (logits.empty()) return 0;
  std::span<const float> l = logits;
  if (options_.repeat_penalty != 1.0f) {
    adjusted_.assign(logits.begin(), logits.end());
    const size_t n = std::min(history.size(), static_cast<size_t>(options_.repeat_last));
    for (size_t i = history.size() - n; i < history.size(); ++i) {
      const int32_t id = history[i];
      if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
      const float x = logits[static_cast<size_t>(id)];  // from the original: a token seen twice counts once
      adjusted_[static_cast<size_t>(id)] = x > 0 ? x / options_.repeat_penalty : x * options_.repeat_penalty;
    }
    l = adjusted_;
  }
  if (options_.temperature == 0.0f) {
    size_t best = 0;
    for (size_t i = 1; i < l.size(); ++i)
      if (l[i] > l[best] || std::isnan(l[best])) best = i;
    return static_cast<int32_t>(best);
  }

  candidates_.clear();
  for (size_t i = 0; i < l.size(); ++i)
    if (!std::isnan(l[i])) candidates_.push_back({l[i], static_cast<int32_t>(i), 0.0});
  if (candidates_.empty()) return 0;
  auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  if (options_.top_k > 0 && options_.top_k < static_cast<int64_t>(candidates_.size())) {
    std::partial_sort(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), better);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  } else {
    std::sort(candidates_.begin(), candidates_.end(), better);
  }
  const double top = candidates_[0].logit;
  auto weigh = [&](double temperature) {
    double sum = 0;
    for (auto& c : candidates_) sum += c.p = c.logit == top ? 1.0 : std::exp((c.logit - top) / temperature);
    return sum;
  };
  const double sum = weigh(1.0);
  if (options_.top_p < 1.0f) {
    double seen = 0;
    size_t keep = 0;
    while (keep < candidates_.size() && (keep == 0 || seen < options_.top_p * sum))
      seen += candidates_[keep++].p;
    candidates_.resize(keep);
  }
  if (options_.min_p > 0.0f) {
    size_t keep = 1;  // the best is 1 relative to itself
    while (keep < candidates_.size() && candidates_[keep].p >= options_.min_p) ++keep;
    candidates_.resize(keep);
  }
  const double target = random_unit(options_.seed, step_++) * weigh(options_.temperature);
  double seen = 0;
  for (const auto& c : candidates_)
    if ((seen += c.p) > target) return c.id;
  return candidates_.back().id;
}

}  // namespace ingot
