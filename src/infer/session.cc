// The forward pass of a Llama layer: norm, attention with rotated queries and keys over the cache, norm,
// gated feed-forward; each adds to the residual stream x.
#include "infer/session.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/memory.h"
#include "infer/ops.h"
#include "kernels/cast.h"

namespace ingot {
namespace {

void add_bias(float* y, const std::vector<float>& bias, int64_t n) {
  if (bias.empty()) return;
  const auto width = static_cast<int64_t>(bias.size());
  for (int64_t t = 0; t < n; ++t) add(y + t * width, bias.data(), width);
}

}  // namespace

Session::Session(const Model& model, const SessionOptions& options)
    : model_(model),
      c_(model.config()),
      options_(options),
      context_(options.context > 0 ? options.context : c_.usable) {
  options_.batch = std::clamp<int64_t>(options_.batch, 1, 4096);
  value_stride_ = (c_.head_dim + 15) / 16 * 16;
}

Status Session::check(std::span<const int32_t> tokens) const {
  if (tokens.empty()) return usage("no tokens to run the model on");
  for (int32_t t : tokens)
    if (t < 0 || t >= c_.vocab)
      return bad_input("token {} is outside the model's vocabulary of {}: the tokenizer is not this model's",
                       t, c_.vocab);
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
    for (auto& layer : cache_) {
      layer.keys.resize(static_cast<size_t>(target * c_.kv_dim()));
      layer.values.resize(static_cast<size_t>(target * c_.kv_heads * value_stride_));
    }
  } catch (const std::exception&) {  // no memory, or more than a vector can hold
    return failed("no memory for a key/value cache of {} positions ({} bytes)", target,
                  target * (c_.kv_dim() + c_.kv_heads * value_stride_) * c_.layers * 4);
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
  memory_.prepare(model_.pool().threads());
  for (auto* v : {&x_, &normed_}) v->resize(static_cast<size_t>(b * c_.hidden));
  for (auto* v : {&q_, &attended_}) v->resize(static_cast<size_t>(b * c_.q_dim()));
  for (auto* v : {&k_, &v_}) v->resize(static_cast<size_t>(b * c_.kv_dim()));
  for (auto* v : {&gate_, &up_}) v->resize(static_cast<size_t>(b * c_.ffn));
  for (auto* v : {&cos_, &sin_}) v->resize(static_cast<size_t>(b * c_.rope_dim / 2));
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

// `what` gave x. The tensors that it was made with are searched for the cause.
Status Session::finite(const float* x, int64_t n, const std::string& what, const std::vector<std::string>& tensors) const {
  if (first_nonfinite(x, n) < 0) return Status();
  const std::string cause = model_.nonfinite_weight(tensors);
  return bad_input("{} gives NaN or infinity: {}", what,
                   cause.empty() ? "the values of its weights overflow" : cause + "; the weights are damaged");
}

Status Session::run_batch(std::span<const int32_t> tokens, Logits which, float* logits) {
  const auto n = static_cast<int64_t>(tokens.size());
  embed(tokens);
  if (const int64_t at = first_nonfinite(x_.data(), n * c_.hidden); at >= 0)
    return bad_input("{} is {}, in the row of a token of this text; the weights are damaged",
                     model_.element("token_embd.weight", {tokens[static_cast<size_t>(at / c_.hidden)], at % c_.hidden}),
                     std::isnan(x_[static_cast<size_t>(at)]) ? "NaN" : "infinite");
  fill_angles(n);
  for (int64_t l = 0; l < c_.layers; ++l) {
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    const std::string blk = fmt::format("blk.{}.", l);
    INGOT_TRY(attention(l, n));
    INGOT_TRY(finite(x_.data(), n * c_.hidden, fmt::format("the attention of layer {}", l), {blk + "attn_", "rope_f"}));
    INGOT_TRY(feed_forward(l, n));
    INGOT_TRY(finite(x_.data(), n * c_.hidden, fmt::format("the feed-forward of layer {}", l), {blk + "ffn_"}));
  }
  if (which == Logits::kNone) return Status();
  const int64_t rows = which == Logits::kAll ? n : 1;
  norm(model_.output_norm(), x_.data() + (n - rows) * c_.hidden, rows, normed_.data());
  INGOT_TRY(products(normed_.data(), rows, {{&model_.output(), logits}}));
  return finite(logits, rows * c_.vocab, "the output layer", {"output_norm.", "output.", "token_embd."});
}

void Session::embed(std::span<const int32_t> tokens) {
  for (size_t t = 0; t < tokens.size(); ++t)
    decode_row(model_.token_embedding(), tokens[t], x_.data() + static_cast<int64_t>(t) * c_.hidden);
}

void Session::fill_angles(int64_t n) {
  const auto& f = model_.rope_frequencies();
  const int64_t pairs = c_.rope_dim / 2;
  for (int64_t t = 0; t < n; ++t)
    for (int64_t i = 0; i < pairs; ++i) {
      // The angle in f32, as the reference has it; its cosine and sine correctly rounded.
      const float angle = static_cast<float>(position_ + t) * f[static_cast<size_t>(i)];
      cos_[static_cast<size_t>(t * pairs + i)] = static_cast<float>(std::cos(static_cast<double>(angle))) * c_.rope_magnitude;
      sin_[static_cast<size_t>(t * pairs + i)] = static_cast<float>(std::sin(static_cast<double>(angle))) * c_.rope_magnitude;
    }
}

void Session::norm(const std::vector<float>& weight, const float* x, int64_t n, float* out) {
  auto one = [&](int64_t t) {
    rms_norm(x + t * c_.hidden, weight.data(), c_.hidden, c_.norm_eps, out + t * c_.hidden);
  };
  if (n < 8)
    for (int64_t t = 0; t < n; ++t) one(t);
  else
    model_.pool().parallel_for(n, one);
}

Status Session::products(const float* x, int64_t n, std::initializer_list<Product> list) {
  if (options_.on_product)
    for (const auto& p : list) options_.on_product(p.w->name, x, n, p.w->cols);
  return multiply(model_.pool(), memory_, x, n, std::span<const Product>(list.begin(), list.size()));
}

Status Session::attention(int64_t layer, int64_t n) {
  const LayerWeights& w = model_.layers()[static_cast<size_t>(layer)];
  norm(w.attn_norm, x_.data(), n, normed_.data());
  INGOT_TRY(products(normed_.data(), n, {{&w.q, q_.data()}, {&w.k, k_.data()}, {&w.v, v_.data()}}));
  add_bias(q_.data(), w.q_bias, n);
  add_bias(k_.data(), w.k_bias, n);
  add_bias(v_.data(), w.v_bias, n);

  LayerCache& cache = cache_[static_cast<size_t>(layer)];
  const CacheView view{cache.keys.data(), cache.values.data(), c_.kv_heads, c_.head_dim, value_stride_};
  const int64_t pairs = c_.rope_dim / 2, d = c_.head_dim;
  auto rotate = [&](float* head, int64_t t) {
    const float* cos = cos_.data() + t * pairs;
    const float* sin = sin_.data() + t * pairs;
    if (c_.rope == RopeKind::kInterleaved)
      rotate_interleaved(head, cos, sin, pairs);
    else
      rotate_halves(head, cos, sin, pairs);
  };
  auto store = [&](int64_t t) {
    for (int64_t h = 0; h < c_.heads; ++h) rotate(q_.data() + t * c_.q_dim() + h * d, t);
    const int64_t position = position_ + t;
    for (int64_t h = 0; h < c_.kv_heads; ++h) {
      float* key = k_.data() + t * c_.kv_dim() + h * d;
      rotate(key, t);
      float* keys = cache.keys.data() + key_offset(view, position, h);
      for (int64_t i = 0; i < d; ++i) keys[i * 16] = key[i];
      std::copy_n(v_.data() + t * c_.kv_dim() + h * d, d,
                  cache.values.data() + (position * c_.kv_heads + h) * value_stride_);
    }
  };
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  std::atomic<bool> no_memory{false};
  auto one = [&](int64_t i, int thread) {
    // Longest sequences first: the last tasks to end are the short ones.
    const int64_t t = n - 1 - i / c_.kv_heads, kv_head = i % c_.kv_heads;
    const int64_t length = position_ + t + 1;
    float* scores = memory_.floats(thread, 0, (length + 1087) / 1024 * 1024);  // grows now and then, not with each token
    if (!scores) {
      no_memory = true;
      return;
    }
    for (int64_t h = kv_head * c_.group(); h < (kv_head + 1) * c_.group(); ++h) {
      const int64_t at = t * c_.q_dim() + h * d;
      attend(view, q_.data() + at, kv_head, length, scale, scores, attended_.data() + at);
    }
  };
  const bool small = n * (position_ + n) * c_.q_dim() < 65536;
  if (n < 8)
    for (int64_t t = 0; t < n; ++t) store(t);
  else
    model_.pool().parallel_for(n, store);
  if (small)
    for (int64_t i = 0; i < n * c_.kv_heads; ++i) one(i, 0);
  else
    model_.pool().parallel_for(n * c_.kv_heads, one);

  if (no_memory) return failed("no memory for the scores of {} positions", position_ + n);
  INGOT_TRY(products(attended_.data(), n, {{&w.attn_output, normed_.data()}}));
  add_bias(normed_.data(), w.attn_output_bias, n);
  add(x_.data(), normed_.data(), n * c_.hidden);
  return Status();
}

Status Session::feed_forward(int64_t layer, int64_t n) {
  const LayerWeights& w = model_.layers()[static_cast<size_t>(layer)];
  norm(w.ffn_norm, x_.data(), n, normed_.data());
  INGOT_TRY(products(normed_.data(), n, {{&w.gate, gate_.data()}, {&w.up, up_.data()}}));
  auto one = [&](int64_t t) { silu_mul(gate_.data() + t * c_.ffn, up_.data() + t * c_.ffn, c_.ffn); };
  if (n < 8)
    for (int64_t t = 0; t < n; ++t) one(t);
  else
    model_.pool().parallel_for(n, one);
  INGOT_TRY(products(gate_.data(), n, {{&w.down, normed_.data()}}));
  add(x_.data(), normed_.data(), n * c_.hidden);
  return Status();
}

}  // namespace ingot
