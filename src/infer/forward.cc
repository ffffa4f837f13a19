// The forward pass of a layer: norm, attention with rotated queries and keys over the cache, norm, feed-forward; each adds to the residual stream x.
#include "infer/forward.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/cast.h"

namespace ingot {
namespace {

void add_bias(float* y, const std::vector<float>& bias, int64_t n) {
  if (bias.empty()) return;
  const auto width = static_cast<int64_t>(bias.size());
  for (int64_t t = 0; t < n; ++t) add(y + t * width, bias.data(), width);
}

int64_t rows_of(std::span<const Part> parts) {
  int64_t n = 0;
  for (const Part& p : parts) n += p.rows;
  return n;
}

}  // namespace

Status check_tokens(std::span<const int32_t> tokens, const ModelConfig& c) {
  for (int32_t t : tokens)
    if (t < 0 || t >= c.vocab) return bad_input("token {} is outside the model's vocabulary of {}: the tokenizer is not this model's", t, c.vocab);
  return Status();
}

Forward::Forward(const Model& model, ProductObserver on_product, CacheTypes cache)
    : model_(model), c_(model.config()), on_product_(std::move(on_product)), cache_{cache, c_.kv_heads, c_.head_dim} {
  activation_ = c_.kinds().activation == "silu" ? Activation::kSilu : c_.kinds().activation == "gelu" ? Activation::kGelu : Activation::kGeluTanh;
}

void Forward::prepare(int64_t b, int64_t context) {
  const bool beyond = c_.longrope > 0 && context > c_.longrope;
  if (beyond != long_) turned_.clear();
  long_ = beyond;
  memory_.prepare(model_.pool().threads());
  for (auto* v : {&normed_, &made_}) v->resize(static_cast<size_t>(b * c_.hidden));
  if (c_.parallel) made_too_.resize(static_cast<size_t>(b * c_.hidden));
  for (auto* v : {&q_, &attended_}) v->resize(static_cast<size_t>(b * c_.q_dim()));
  for (auto* v : {&k_, &v_}) v->resize(static_cast<size_t>(b * c_.kv_dim()));
  if (model_.fused_qkv()) qkv_.resize(static_cast<size_t>(b * (c_.q_dim() + 2 * c_.kv_dim())));
  const int64_t width = std::max({c_.ffn, c_.ffn_expert, c_.ffn_shared});
  gate_.resize(static_cast<size_t>(b * width));
  up_.resize(static_cast<size_t>(b * width * (c_.kinds().fused_gate ? 2 : 1)));
}

void Forward::grow(LayerCache* cache, int64_t positions) const {
  cache->shape = cache_;
  cache->grow(positions);
}

uint64_t Forward::cache_bytes(int64_t positions) const {
  return static_cast<uint64_t>((positions + 15) / 16 * cache_.kv_heads * (cache_.key_bytes() + 16 * cache_.value_bytes()));
}

// `what` gave x. The tensors that it was made with are searched for the cause.
Status Forward::finite(const float* x, int64_t n, const std::string& what, const std::vector<std::string>& tensors) const {
  if (first_nonfinite(x, n) < 0) return Status();
  const std::string cause = model_.nonfinite_weight(tensors);
  return bad_input("{} gives NaN or infinity: {}", what, cause.empty() ? "the values of its weights overflow" : cause + "; the weights are damaged");
}

Status Forward::embed(std::span<const int32_t> tokens, std::span<const Part> parts, float* x) {
  const auto n = static_cast<int64_t>(tokens.size());
  for (int64_t t = 0; t < n; ++t) decode_row(model_.token_embedding(), tokens[static_cast<size_t>(t)], x + t * c_.hidden);
  if (c_.embedding_scale != 1) scale(x, n * c_.hidden, c_.embedding_scale);
  if (model_.position_embedding()) {
    int64_t t = 0;
    for (const Part& p : parts)
      for (int64_t i = 0; i < p.rows; ++i, ++t) {
        decode_row(model_.position_embedding(), p.position + i, normed_.data());
        add(x + t * c_.hidden, normed_.data(), c_.hidden);
      }
  }
  if (const int64_t at = first_nonfinite(x, n * c_.hidden); at >= 0)
    return bad_input("{} is {}, in the row of a token of this text; the weights are damaged",
                     model_.element("token_embd.weight", {tokens[static_cast<size_t>(at / c_.hidden)], at % c_.hidden}),
                     std::isnan(x[static_cast<size_t>(at)]) ? "NaN" : "infinite");
  return Status();
}

// Layers of one batch turn by the same angles.
void Forward::fill_angles(std::span<const Part> parts) {
  const auto same = [](const Part& p, const std::pair<int64_t, int64_t>& t) { return p.rows == t.first && p.position == t.second; };
  if (!turned_.empty() && std::equal(parts.begin(), parts.end(), turned_.begin(), turned_.end(), same)) return;
  turned_.clear();
  fill(parts, model_.rope_frequencies(long_ ? Model::Angles::kLong : Model::Angles::kUsual), c_.rope_magnitude, &usual_);
  if (c_.kinds().sliding_rope == "own") fill(parts, model_.rope_frequencies(Model::Angles::kSliding), 1.0f, &sliding_);
  for (const Part& p : parts) turned_.emplace_back(p.rows, p.position);
}

void Forward::fill(std::span<const Part> parts, const std::vector<float>& f, float magnitude, Rotation* out) const {
  const int64_t pairs = c_.rope_dim / 2;
  const auto n = static_cast<size_t>(rows_of(parts) * pairs);
  out->cos.resize(n);
  out->sin.resize(n);
  size_t at = 0;
  for (const Part& p : parts)
    for (int64_t t = 0; t < p.rows; ++t)
      for (int64_t i = 0; i < pairs; ++i, ++at) {
        // The angle in f32, as the reference has it; its cosine and sine correctly rounded.
        const float angle = static_cast<float>(p.position + t) * f[static_cast<size_t>(i)];
        out->cos[at] = static_cast<float>(std::cos(static_cast<double>(angle))) * magnitude;
        out->sin[at] = static_cast<float>(std::sin(static_cast<double>(angle))) * magnitude;
      }
}

void Forward::output_norm(const float* x, int64_t rows, float* out) { norm(model_.output_norm(), x, rows, out); }

Status Forward::logits(const float* normed, int64_t rows, float* out) {
  memory_.prepare(model_.pool().threads());
  INGOT_TRY(products(normed, rows, {{&model_.output(), out}}));
  if (c_.logit_scale != 1) scale(out, rows * c_.vocab, c_.logit_scale);
  if (c_.logit_cap > 0) soft_cap(out, rows * c_.vocab, c_.logit_cap);
  return finite(out, rows * c_.vocab, "the output layer", {"output_norm.", "output.", "token_embd."});
}

void Forward::norm(const LayerWeights::Norm& w, const float* x, int64_t n, float* out) {
  const bool rms = c_.kinds().norm == "rms";
  for_each(n, [&](int64_t t) {
    const float* in = x + t * c_.hidden;
    float* to = out + t * c_.hidden;
    if (rms) rms_norm(in, w.weight.data(), c_.hidden, c_.norm_eps, to);
    else layer_norm(in, w.weight.data(), w.bias.empty() ? nullptr : w.bias.data(), c_.hidden, c_.norm_eps, to);
  });
}

void Forward::norm_rows(const LayerWeights::Norm& w, float* x, int64_t rows, int64_t width) {
  if (!w) return;
  for_each(rows, [&](int64_t r) {
    float* row = x + r * width;
    // One for each head, or one over all of them.
    const auto n = static_cast<int64_t>(w.weight.size());
    for (int64_t at = 0; at < width; at += n) rms_norm(row + at, w.weight.data(), n, c_.norm_eps, row + at);
  });
}

Status Forward::products(const float* x, int64_t n, std::initializer_list<Product> list) {
  if (on_product_)
    for (const auto& p : list) on_product_(*p.w, x, n);
  INGOT_TRY(multiply(model_.pool(), memory_, x, n, std::span<const Product>(list.begin(), list.size())));
  for (const Product& p : list)
    if (p.w->scale != 1) scale(p.y, n * p.w->rows, p.w->scale);
  return {};
}

Status Forward::layer(const LayerWeights& w, int64_t l, std::span<const Part> parts, float* residual) {
  const int64_t n = rows_of(parts), all = n * c_.hidden;
  const std::string blk = fmt::format("blk.{}.", l);
  fill_angles(parts);
  const auto joined = [&](float* made, const LayerWeights::Norm& post) {
    if (post) norm(post, made, n, made);
    if (c_.residual_scale != 1) scale(made, all, c_.residual_scale);
    add(residual, made, all);
  };
  const auto input = [&](const LayerWeights::Norm& pre) {
    if (pre) norm(pre, residual, n, normed_.data());
    return pre ? normed_.data() : residual;
  };
  const float* x = input(w.attn_norm);
  INGOT_TRY(attention(w, l, parts, n, x, made_.data()));
  if (c_.parallel) {
    if (w.ffn_norm) x = input(w.ffn_norm);
    INGOT_TRY(feed_forward(w, n, x, made_too_.data()));
    joined(made_.data(), w.post_attention_norm);
    INGOT_TRY(finite(residual, all, fmt::format("the attention of layer {}", l), {blk + "attn_", blk + "post_attention", "rope_f"}));
    joined(made_too_.data(), w.post_ffn_norm);
  } else {
    joined(made_.data(), w.post_attention_norm);
    INGOT_TRY(finite(residual, all, fmt::format("the attention of layer {}", l), {blk + "attn_", blk + "post_attention", "rope_f"}));
    INGOT_TRY(feed_forward(w, n, input(w.ffn_norm), made_.data()));
    joined(made_.data(), w.post_ffn_norm);
  }
  return finite(residual, all, fmt::format("the feed-forward of layer {}", l), {blk + "ffn_", blk + "post_ffw"});
}

// q_, k_ and v_, with their biases and norms.
Status Forward::project(const LayerWeights& w, int64_t n, const float* x) {
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

Status Forward::attention(const LayerWeights& w, int64_t layer, std::span<const Part> parts, int64_t n, const float* x, float* out) {
  const LayerPlan& plan = c_.plan[static_cast<size_t>(layer)];
  INGOT_TRY(project(w, n, x));
  const int64_t pairs = c_.rope_dim / 2, d = c_.head_dim;
  const Rotation& angles = plan.sliding_angles ? sliding_ : usual_;
  const bool interleaved = c_.kinds().rope == "interleaved";
  auto rotate = [&](float* head, int64_t t) {
    if (!plan.rope) return;
    (interleaved ? rotate_interleaved : rotate_halves)(head, angles.cos.data() + t * pairs, angles.sin.data() + t * pairs, pairs);
  };
  std::atomic<bool> no_memory{false};
  int64_t begin = 0;
  for (const Part& part : parts) {
    const int64_t row = begin, position = part.position;
    for_each(part.rows, [&](int64_t i) {
      const int64_t t = row + i;
      for (int64_t h = 0; h < c_.heads; ++h) rotate(q_.data() + t * c_.q_dim() + h * d, t);
      for (int64_t h = 0; h < c_.kv_heads; ++h) rotate(k_.data() + t * c_.kv_dim() + h * d, t);
      part.cache->put(position + i, k_.data() + t * c_.kv_dim(), v_.data() + t * c_.kv_dim());
    });
    auto one = [&](int64_t i, int thread) {
      // Longest sequences first: the last tasks to end are the short ones.
      const int64_t t = part.rows - 1 - i / c_.kv_heads, kv_head = i % c_.kv_heads;
      const int64_t length = position + t + 1, first = plan.window ? std::max<int64_t>(0, length - plan.window) : 0;
      float* scores = memory_.floats(thread, 0, attend_floats((length - first + 1023) / 1024 * 1024));  // grows now and then, not with each token
      if (!scores) {
        no_memory = true;
        return;
      }
      const int64_t at = (row + t) * c_.q_dim() + kv_head * c_.group() * d;
      attend(*part.cache, q_.data() + at, c_.group(), kv_head, first, length, c_.attention_scale, c_.attention_cap, scores, attended_.data() + at);
    };
    if (part.rows * (position + part.rows) * c_.q_dim() < 65536)
      for (int64_t i = 0; i < part.rows * c_.kv_heads; ++i) one(i, 0);
    else
      model_.pool().parallel_for(part.rows * c_.kv_heads, one);
    if (no_memory) return failed("no memory for the scores of {} positions", position + part.rows);
    begin += part.rows;
  }
  INGOT_TRY(products(attended_.data(), n, {{&w.attn_output.w, out}}));
  add_bias(out, w.attn_output.bias, n);
  return Status();
}

Status Forward::feed_forward(const LayerWeights& w, int64_t n, const float* x, float* out) {
  return c_.experts ? mixture(w, n, x, out) : dense({&w.gate, &w.up, &w.down}, n, c_.ffn, x, out);
}

// `width`: of what lies between the two products.
Status Forward::dense(const Gated& w, int64_t n, int64_t width, const float* x, float* out) {
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
