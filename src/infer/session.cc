// The forward pass of a layer: norm, attention with rotated queries and keys over the cache, norm, feed-forward; each adds to the residual
// stream x. What of that a model has is in its architecture and its tensors; mixtures of experts are in session_experts.cc.
#include "infer/session.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/memory.h"
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
  activation_ = c_.kinds().activation == "silu" ? Activation::kSilu : c_.kinds().activation == "gelu" ? Activation::kGelu : Activation::kGeluTanh;
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
  for (auto* v : {&x_, &normed_, &made_}) v->resize(static_cast<size_t>(b * c_.hidden));
  if (c_.parallel) made_too_.resize(static_cast<size_t>(b * c_.hidden));
  for (auto* v : {&q_, &attended_}) v->resize(static_cast<size_t>(b * c_.q_dim()));
  for (auto* v : {&k_, &v_}) v->resize(static_cast<size_t>(b * c_.kv_dim()));
  if (model_.layers()[0].qkv.w) qkv_.resize(static_cast<size_t>(b * (c_.q_dim() + 2 * c_.kv_dim())));
  const int64_t width = std::max({c_.ffn, c_.ffn_expert, c_.ffn_shared});
  gate_.resize(static_cast<size_t>(b * width));
  up_.resize(static_cast<size_t>(b * width * (c_.kinds().fused_gate ? 2 : 1)));
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
  const bool beyond = c_.longrope > 0 && context_ > c_.longrope;
  fill_angles(n, model_.rope_frequencies(beyond ? Model::Angles::kLong : Model::Angles::kUsual), &usual_);
  if (c_.kinds().sliding_rope == "own") fill_angles(n, model_.rope_frequencies(Model::Angles::kSliding), &sliding_);
  for (int64_t l = 0; l < c_.layers; ++l) {
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    INGOT_TRY(layer(l, n));
  }
  if (which == Logits::kNone) return Status();
  const int64_t rows = which == Logits::kAll ? n : 1;
  norm(model_.output_norm(), x_.data() + (n - rows) * c_.hidden, rows, normed_.data());
  INGOT_TRY(products(normed_.data(), rows, {{&model_.output(), logits}}));
  if (c_.logit_scale != 1) scale(logits, rows * c_.vocab, c_.logit_scale);
  if (c_.logit_cap > 0) soft_cap(logits, rows * c_.vocab, c_.logit_cap);
  return finite(logits, rows * c_.vocab, "the output layer", {"output_norm.", "output.", "token_embd."});
}

void Session::embed(std::span<const int32_t> tokens) {
  const auto n = static_cast<int64_t>(tokens.size());
  for (int64_t t = 0; t < n; ++t) decode_row(model_.token_embedding(), tokens[static_cast<size_t>(t)], x_.data() + t * c_.hidden);
  if (c_.embedding_scale != 1) scale(x_.data(), n * c_.hidden, c_.embedding_scale);
  if (!model_.position_embedding()) return;
  for (int64_t t = 0; t < n; ++t) {
    decode_row(model_.position_embedding(), position_ + t, normed_.data());
    add(x_.data() + t * c_.hidden, normed_.data(), c_.hidden);
  }
}

void Session::fill_angles(int64_t n, const std::vector<float>& f, Rotation* out) const {
  const int64_t pairs = c_.rope_dim / 2;
  out->cos.resize(static_cast<size_t>(n * pairs));
  out->sin.resize(static_cast<size_t>(n * pairs));
  const float magnitude = &f == &model_.rope_frequencies(Model::Angles::kSliding) ? 1.0f : c_.rope_magnitude;
  for (int64_t t = 0; t < n; ++t)
    for (int64_t i = 0; i < pairs; ++i) {
      // The angle in f32, as the reference has it; its cosine and sine correctly rounded.
      const float angle = static_cast<float>(position_ + t) * f[static_cast<size_t>(i)];
      out->cos[static_cast<size_t>(t * pairs + i)] = static_cast<float>(std::cos(static_cast<double>(angle))) * magnitude;
      out->sin[static_cast<size_t>(t * pairs + i)] = static_cast<float>(std::sin(static_cast<double>(angle))) * magnitude;
    }
}

void Session::norm(const LayerWeights::Norm& w, const float* x, int64_t n, float* out) {
  const bool rms = c_.kinds().norm == "rms";
  for_each(n, [&](int64_t t) {
    const float* in = x + t * c_.hidden;
    float* to = out + t * c_.hidden;
    if (rms) rms_norm(in, w.weight.data(), c_.hidden, c_.norm_eps, to);
    else layer_norm(in, w.weight.data(), w.bias.empty() ? nullptr : w.bias.data(), c_.hidden, c_.norm_eps, to);
  });
}

void Session::norm_rows(const LayerWeights::Norm& w, float* x, int64_t rows, int64_t width) {
  if (!w) return;
  for_each(rows, [&](int64_t r) {
    float* row = x + r * width;
    // One for each head, or one over all of them.
    const auto n = static_cast<int64_t>(w.weight.size());
    for (int64_t at = 0; at < width; at += n) rms_norm(row + at, w.weight.data(), n, c_.norm_eps, row + at);
  });
}

Status Session::products(const float* x, int64_t n, std::initializer_list<Product> list) {
  if (options_.on_product)
    for (const auto& p : list) options_.on_product(p.w->name, x, n, p.w->cols);
  return multiply(model_.pool(), memory_, x, n, std::span<const Product>(list.begin(), list.size()));
}

Status Session::layer(int64_t l, int64_t n) {
  const LayerWeights& w = model_.layers()[static_cast<size_t>(l)];
  const std::string blk = fmt::format("blk.{}.", l);
  const int64_t all = n * c_.hidden;
  const auto joined = [&](float* made, const LayerWeights::Norm& post) {
    if (post) norm(post, made, n, made);
    if (c_.residual_scale != 1) scale(made, all, c_.residual_scale);
    add(x_.data(), made, all);
  };
  const auto input = [&](const LayerWeights::Norm& pre) {
    if (pre) norm(pre, x_.data(), n, normed_.data());
    return pre ? normed_.data() : x_.data();
  };
  const float* x = input(w.attn_norm);
  INGOT_TRY(attention(l, n, x, made_.data()));
  if (c_.parallel) {
    if (w.ffn_norm) x = input(w.ffn_norm);
    INGOT_TRY(feed_forward(w, n, x, made_too_.data()));
    joined(made_.data(), w.post_attention_norm);
    INGOT_TRY(finite(x_.data(), all, fmt::format("the attention of layer {}", l), {blk + "attn_", blk + "post_attention", "rope_f"}));
    joined(made_too_.data(), w.post_ffn_norm);
  } else {
    joined(made_.data(), w.post_attention_norm);
    INGOT_TRY(finite(x_.data(), all, fmt::format("the attention of layer {}", l), {blk + "attn_", blk + "post_attention", "rope_f"}));
    INGOT_TRY(feed_forward(w, n, input(w.ffn_norm), made_.data()));
    joined(made_.data(), w.post_ffn_norm);
  }
  return finite(x_.data(), all, fmt::format("the feed-forward of layer {}", l), {blk + "ffn_", blk + "post_ffw"});
}

// q_, k_ and v_, with their biases and norms.
Status Session::project(const LayerWeights& w, int64_t n, const float* x) {
  if (w.qkv.w) {
    const int64_t q = c_.q_dim(), kv = c_.kv_dim(), width = q + 2 * kv;
    INGOT_TRY(products(x, n, {{&w.qkv.w, qkv_.data()}}));
    add_bias(qkv_.data(), w.qkv.bias, n);
    for_each(n, [&](int64_t t) {
      const float* row = qkv_.data() + t * width;
      std::copy_n(row, q, q_.data() + t * q);
      std::copy_n(row + q, kv, k_.data() + t * kv);
      std::copy_n(row + q + kv, kv, v_.data() + t * kv);
    });
  } else {
    INGOT_TRY(products(x, n, {{&w.q.w, q_.data()}, {&w.k.w, k_.data()}, {&w.v.w, v_.data()}}));
    add_bias(q_.data(), w.q.bias, n);
    add_bias(k_.data(), w.k.bias, n);
    add_bias(v_.data(), w.v.bias, n);
  }
  norm_rows(w.q_norm, q_.data(), n, c_.q_dim());
  norm_rows(w.k_norm, k_.data(), n, c_.kv_dim());
  return {};
}

Status Session::attention(int64_t layer, int64_t n, const float* x, float* out) {
  const LayerWeights& w = model_.layers()[static_cast<size_t>(layer)];
  const LayerPlan& plan = c_.plan[static_cast<size_t>(layer)];
  INGOT_TRY(project(w, n, x));
  LayerCache& cache = cache_[static_cast<size_t>(layer)];
  const CacheView view{cache.keys.data(), cache.values.data(), c_.kv_heads, c_.head_dim, value_stride_};
  const int64_t pairs = c_.rope_dim / 2, d = c_.head_dim;
  const Rotation& angles = plan.sliding_angles ? sliding_ : usual_;
  const bool interleaved = c_.kinds().rope == "interleaved";
  auto rotate = [&](float* head, int64_t t) {
    if (!plan.rope) return;
    (interleaved ? rotate_interleaved : rotate_halves)(head, angles.cos.data() + t * pairs, angles.sin.data() + t * pairs, pairs);
  };
  for_each(n, [&](int64_t t) {
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
  });
  std::atomic<bool> no_memory{false};
  auto one = [&](int64_t i, int thread) {
    // Longest sequences first: the last tasks to end are the short ones.
    const int64_t t = n - 1 - i / c_.kv_heads, kv_head = i % c_.kv_heads;
    const int64_t length = position_ + t + 1, first = plan.window ? std::max<int64_t>(0, length - plan.window) : 0;
    float* scores = memory_.floats(thread, 0, (length - first + 1151) / 1024 * 1024);  // grows now and then, not with each token
    if (!scores) {
      no_memory = true;
      return;
    }
    for (int64_t h = kv_head * c_.group(); h < (kv_head + 1) * c_.group(); ++h) {
      const int64_t at = t * c_.q_dim() + h * d;
      attend(view, q_.data() + at, kv_head, first, length, c_.attention_scale, c_.attention_cap, scores, attended_.data() + at);
    }
  };
  if (n * (position_ + n) * c_.q_dim() < 65536)
    for (int64_t i = 0; i < n * c_.kv_heads; ++i) one(i, 0);
  else
    model_.pool().parallel_for(n * c_.kv_heads, one);

  if (no_memory) return failed("no memory for the scores of {} positions", position_ + n);
  INGOT_TRY(products(attended_.data(), n, {{&w.attn_output.w, out}}));
  add_bias(out, w.attn_output.bias, n);
  return Status();
}

Status Session::feed_forward(const LayerWeights& w, int64_t n, const float* x, float* out) {
  return c_.experts ? mixture(w, n, x, out) : dense({&w.gate, &w.up, &w.down}, n, c_.ffn, x, out);
}

// `width`: of what lies between the two products.
Status Session::dense(const Gated& w, int64_t n, int64_t width, const float* x, float* out) {
  const LayerKinds& k = c_.kinds();
  float* inner = gate_.data();
  if (k.fused_gate) {
    INGOT_TRY(products(x, n, {{&w.up->w, up_.data()}}));
    add_bias(up_.data(), w.up->bias, n);
    for_each(n, [&](int64_t t) {
      float* row = up_.data() + t * 2 * width;
      activate_mul(activation_, row, row + width, width);
      std::copy_n(row, width, inner + t * width);
    });
  } else if (k.gated) {
    INGOT_TRY(products(x, n, {{&w.gate->w, gate_.data()}, {&w.up->w, up_.data()}}));
    add_bias(gate_.data(), w.gate->bias, n);
    add_bias(up_.data(), w.up->bias, n);
    for_each(n, [&](int64_t t) { activate_mul(activation_, gate_.data() + t * width, up_.data() + t * width, width); });
  } else {
    INGOT_TRY(products(x, n, {{&w.up->w, up_.data()}}));
    add_bias(up_.data(), w.up->bias, n);
    for_each(n, [&](int64_t t) { activate(activation_, up_.data() + t * width, width); });
    inner = up_.data();
  }
  INGOT_TRY(products(inner, n, {{&w.down->w, out}}));
  add_bias(out, w.down->bias, n);
  return {};
}

}  // namespace ingot
