// A sequence: its cache grows with it, its tokens pass through the layers in batches.
#include "infer/session.h"

#include <algorithm>

#include "base/memory.h"

namespace ingot {

Session::Session(const Model& model, const SessionOptions& options)
    : model_(model),
      c_(model.config()),
      options_(options),
      context_(options.context > 0 ? options.context : c_.usable),
      forward_(model, options.on_product, options.cache) {
  options_.batch = std::clamp<int64_t>(options_.batch, 1, 4096);
}

Status Session::check(std::span<const int32_t> tokens) const {
  if (tokens.empty()) return usage("no tokens to run the model on");
  INGOT_TRY(check_tokens(tokens, c_));
  const auto n = static_cast<int64_t>(tokens.size());
  if (n > context_ - position_)
    return bad_input("the text has {} tokens{}, which do not fit the model's context of {}; give a shorter text", n,
                     position_ ? fmt::format(" after {}", position_) : "", context_);
  return Status();
}

// Memory for the cache grows with the sequence: a model may claim a context of millions.
Status Session::grow(int64_t positions) {
  if (positions <= capacity_) return Status();
  const int64_t target = (std::max(positions, std::min(context_, capacity_ * 2)) + 63) / 64 * 64;
  try {
    cache_.resize(static_cast<size_t>(c_.layers));
    for (auto& layer : cache_) forward_.grow(&layer, target);
  } catch (const std::exception&) {  // no memory, or more than a vector can hold
    return failed("no memory for a key/value cache of {} positions ({} bytes)", target, forward_.cache_bytes(target) * static_cast<uint64_t>(c_.layers));
  }
  capacity_ = target;
  return Status();
}

Result<std::span<const float>> Session::forward(std::span<const int32_t> tokens, Logits which) {
  INGOT_TRY(check(tokens));
  const int64_t before = position_;
  Status done = within_memory("running the model", [&] { return forward_all(tokens, which); });
  if (!done.ok()) {
    position_ = before;
    return done.take_error();
  }
  return std::span<const float>(logits_);
}

Status Session::forward_all(std::span<const int32_t> tokens, Logits which) {
  const auto n = static_cast<int64_t>(tokens.size());
  const int64_t rows = which == Logits::kAll ? n : which == Logits::kLast ? 1 : 0, b = std::min(n, options_.batch);
  INGOT_TRY(grow(position_ + n));
  forward_.prepare(b, context_);
  x_.resize(static_cast<size_t>(b * c_.hidden));
  normed_.resize(static_cast<size_t>((rows ? std::min(rows, b) : 0) * c_.hidden));
  logits_.resize(static_cast<size_t>(rows * c_.vocab));
  for (int64_t first = 0; first < n; first += b) {
    const int64_t count = std::min(b, n - first);
    const bool last = first + count == n;
    const Logits now = which == Logits::kLast && !last ? Logits::kNone : which;
    INGOT_TRY(run_batch(tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), now,
                        logits_.data() + (which == Logits::kAll ? first * c_.vocab : 0)));
    position_ += count;
  }
  return Status();
}

Status Session::run_batch(std::span<const int32_t> tokens, Logits which, float* logits) {
  Part part{static_cast<int64_t>(tokens.size()), position_, nullptr};
  const std::span<const Part> parts(&part, 1);
  INGOT_TRY(forward_.embed(tokens, parts, x_.data()));
  for (int64_t l = 0; l < c_.layers; ++l) {
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    INGOT_ASSIGN(const auto weights, model_.layer(l));
    part.cache = &cache_[static_cast<size_t>(l)];
    INGOT_TRY(forward_.layer(*weights, l, parts, x_.data()));
  }
  if (which == Logits::kNone) return Status();
  const int64_t rows = which == Logits::kAll ? part.rows : 1;
  forward_.output_norm(x_.data() + (part.rows - rows) * c_.hidden, rows, normed_.data());
  return forward_.logits(normed_.data(), rows, logits);
}

}  // namespace ingot
