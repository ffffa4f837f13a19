// The feed-forward of a mixture of experts: a router chooses experts_used of them for each token; their outputs are summed by its weights.
// Softmax over all experts, the largest chosen (Mixtral, Qwen2-MoE, Qwen3-MoE).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "infer/forward.h"
#include "kernels/cast.h"

namespace ingot {
namespace {

struct Choice {
  int64_t token;
  float weight;
};

// What each expert gets. `scores` [n, experts] become probabilities.
std::vector<std::vector<Choice>> route(float* scores, int64_t n, int64_t experts, int64_t used, bool normalized) {
  std::vector<std::vector<Choice>> out(static_cast<size_t>(experts));
  std::vector<int64_t> order(static_cast<size_t>(experts));
  for (int64_t t = 0; t < n; ++t) {
    float* p = scores + t * experts;
    const float top = *std::max_element(p, p + experts);
    float sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum += p[e] = std::exp(p[e] - top);
    for (int64_t e = 0; e < experts; ++e) p[e] /= sum;
    std::iota(order.begin(), order.end(), 0);
    // Of equal ones the first.
    std::partial_sort(order.begin(), order.begin() + used, order.end(), [p](int64_t a, int64_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
    float chosen = 1;
    if (normalized) {
      chosen = 0;
      for (int64_t k = 0; k < used; ++k) chosen += p[order[static_cast<size_t>(k)]];
    }
    for (int64_t k = 0; k < used; ++k) {
      const int64_t e = order[static_cast<size_t>(k)];
      out[static_cast<size_t>(e)].push_back({t, p[e] / chosen});
    }
  }
  return out;
}

}  // namespace

Status Forward::mixture(const LayerWeights& w, int64_t n, const float* x, float* out) {
  const int64_t hidden = c_.hidden;
  for (auto* v : {&gathered_, &given_}) v->resize(static_cast<size_t>(n * hidden));
  routed_.resize(static_cast<size_t>(n * c_.experts));
  INGOT_TRY(products(x, n, {{&w.router, routed_.data()}}));
  if (first_nonfinite(routed_.data(), n * c_.experts) >= 0) {  // NaN has no order
    std::fill_n(out, n * hidden, std::nanf(""));
    return {};
  }
  const auto chosen = route(routed_.data(), n, c_.experts, c_.experts_used, c_.kinds().routing_normalized);
  std::fill_n(out, n * hidden, 0.0f);
  for (size_t e = 0; e < chosen.size(); ++e) {
    const auto rows = static_cast<int64_t>(chosen[e].size());
    if (rows == 0) continue;
    for (int64_t r = 0; r < rows; ++r) std::copy_n(x + chosen[e][static_cast<size_t>(r)].token * hidden, hidden, gathered_.data() + r * hidden);
    INGOT_TRY(products(gathered_.data(), rows, {{&w.expert_gate[e], gate_.data()}, {&w.expert_up[e], up_.data()}}));
    for_each(rows, [&](int64_t r) { activate_mul(activation_, gate_.data() + r * c_.ffn_expert, up_.data() + r * c_.ffn_expert, c_.ffn_expert); });
    INGOT_TRY(products(gate_.data(), rows, {{&w.expert_down[e], given_.data()}}));
    for (int64_t r = 0; r < rows; ++r) {
      const Choice& c = chosen[e][static_cast<size_t>(r)];
      scale(given_.data() + r * hidden, hidden, c.weight);
      add(out + c.token * hidden, given_.data() + r * hidden, hidden);
    }
  }
  if (!c_.ffn_shared) return {};
  shared_.resize(static_cast<size_t>(n * hidden));
  INGOT_TRY(dense({&w.shared_gate, &w.shared_up, &w.shared_down}, n, c_.ffn_shared, x, shared_.data()));
  for_each(n, [&](int64_t t) {
    float* row = shared_.data() + t * hidden;
    if (!w.shared_router.empty()) {
      const float s = std::inner_product(w.shared_router.begin(), w.shared_router.end(), x + t * hidden, 0.0f);
      scale(row, hidden, 1 / (1 + std::exp(-s)));
    }
    add(out + t * hidden, row, hidden);
  });
  return {};
}

}  // namespace ingot
