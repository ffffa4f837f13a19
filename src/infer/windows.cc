#include "infer/windows.h"

#include <algorithm>

#include "base/memory.h"

namespace ingot {

WindowRunner::WindowRunner(const Model& model, WindowsOptions options)
    : model_(model), options_(std::move(options)), forward_(model, options_.on_product) {
  options_.batch = std::clamp<int64_t>(options_.batch, 1, 4096);
  forward_.keep_rows_apart();
}

Result<std::span<const float>> WindowRunner::states(std::span<const int32_t> ids, int64_t length, int64_t first) {
  const ModelConfig& c = model_.config();
  const auto n = static_cast<int64_t>(ids.size());
  if (length < 1 || n < 1 || n % length || first < 0 || first >= length) return usage("{} tokens are no windows of {} tokens from position {} on", n, length, first);
  if (length > c.usable) return bad_input("windows of {} tokens do not fit the model's {} of {}", length, c.limit.empty() ? "context" : c.limit, c.usable);
  INGOT_TRY(check_tokens(ids, c));
  Status done = within_memory("running the model", [&] { return run(ids, length, first); });
  if (!done.ok()) return done.take_error();
  return std::span<const float>(x_).first(static_cast<size_t>(n / length * (length - first) * c.hidden));
}

Status WindowRunner::run(std::span<const int32_t> ids, int64_t length, int64_t first) {
  const ModelConfig& c = model_.config();
  const auto n = static_cast<int64_t>(ids.size());
  // A batch is some whole windows, or a piece of one.
  const int64_t together = std::max<int64_t>(1, options_.batch / length), piece = std::min(length, options_.batch);
  const int64_t windows = n / length, most = std::min(together, windows) * piece;
  forward_.prepare(most, length);
  x_.resize(static_cast<size_t>(n * c.hidden));
  caches_.resize(static_cast<size_t>(std::min(together, windows)));
  for (auto& cache : caches_) forward_.grow(&cache, length);
  std::vector<Part> parts;
  // f(tokens of the batch, rows before it)
  const auto for_each_batch = [&](auto f) -> Status {
    for (int64_t w = 0; w < windows; w += together)
      for (int64_t at = 0; at < length; at += piece) {
        parts.clear();
        const int64_t rows = std::min(piece, length - at), many = std::min(together, windows - w);
        for (int64_t k = 0; k < many; ++k) parts.push_back({rows, at, &caches_[static_cast<size_t>(k)]});
        INGOT_TRY(f(w * length + at, many * rows));
      }
    return {};
  };
  INGOT_TRY(for_each_batch([&](int64_t row, int64_t rows) {
    return forward_.embed(ids.subspan(static_cast<size_t>(row), static_cast<size_t>(rows)), parts, x_.data() + row * c.hidden);
  }));
  for (int64_t l = 0; l < c.layers; ++l) {
    INGOT_ASSIGN(const auto weights, model_.layer(l));
    INGOT_TRY(for_each_batch([&](int64_t row, int64_t rows) -> Status {
      if (options_.cancel && options_.cancel->cancelled()) return interrupted();
      INGOT_TRY(forward_.layer(*weights, l, parts, x_.data() + row * c.hidden));
      if (options_.on_progress) options_.on_progress(l * n + row + rows, c.layers * n);
      return {};
    }));
  }
  // What is asked for moves to the front.
  for (int64_t w = 0; w < windows; ++w) {
    float* from = x_.data() + (w * length + first) * c.hidden;
    forward_.output_norm(from, length - first, from);
    std::copy_n(from, (length - first) * c.hidden, x_.data() + w * (length - first) * c.hidden);
  }
  return {};
}

Status WindowRunner::logits(const float* states, int64_t rows, float* out) {
  return within_memory("running the model", [&] { return forward_.logits(states, rows, out); });
}

uint64_t WindowRunner::bytes_of(const ModelConfig& c, int64_t windows, int64_t length, int64_t batch) {
  const int64_t together = std::max<int64_t>(1, batch / length), rows = std::min(together, windows) * std::min(length, batch);
  const int64_t width = std::max({c.ffn, c.ffn_expert, c.ffn_shared}) * 3 + c.hidden * 6 + 2 * (c.q_dim() + 2 * c.kv_dim()) + c.experts;
  const auto of = [](int64_t n) { return static_cast<uint64_t>(n) * sizeof(float); };
  return of(windows * length * c.hidden) + of(rows * width) + static_cast<uint64_t>(std::min(together, windows)) * of(2 * length * (c.kv_dim() + 16 * c.kv_heads));
}

}  // namespace ingot
