// Loading a model: every tensor by its GGUF name, shapes checked against the metadata.
#include "infer/model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>

#include "base/memory.h"
#include "exec/evaluate.h"
#include "exec/plan.h"
#include "infer/packed.h"
#include "kernels/cast.h"

namespace ingot {
namespace {

// The number of tokens the model's own tokenizer has, or -1.
int64_t tokenizer_size(const Artifact& artifact) {
  const MetaValue* m = artifact.meta("tokenizer.ggml.tokens");
  const auto* tokens = m ? std::get_if<std::vector<std::string>>(&m->v) : nullptr;
  return tokens ? static_cast<int64_t>(tokens->size()) : -1;
}

uint64_t total_bytes(const Artifact& artifact) {
  uint64_t n = 0;
  for (const auto& t : artifact.tensors) n += bytes_of(t.spec());
  return n;
}

uint64_t bytes_of_layer(const LayerWeights& l) {
  uint64_t n = 0;
  for (const auto* w : {&l.q, &l.k, &l.v, &l.attn_output, &l.gate, &l.up, &l.down}) n += w->bytes();
  return n;
}

}  // namespace

Result<LayerWeights> load_layer(const Artifact& artifact, const ModelConfig& c, int64_t layer, const ExecOptions& options) {
  const std::string p = fmt::format("blk.{}.", layer);
  LayerWeights l;
  WeightLoader loader(artifact);
  INGOT_TRY(loader.vector(p + "attn_norm.weight", c.hidden, &l.attn_norm));
  INGOT_TRY(loader.matrix(p + "attn_q.weight", c.q_dim(), c.hidden, &l.q));
  INGOT_TRY(loader.matrix(p + "attn_k.weight", c.kv_dim(), c.hidden, &l.k));
  INGOT_TRY(loader.matrix(p + "attn_v.weight", c.kv_dim(), c.hidden, &l.v));
  INGOT_TRY(loader.matrix(p + "attn_output.weight", c.hidden, c.q_dim(), &l.attn_output));
  INGOT_TRY(loader.vector(p + "attn_q.bias", c.q_dim(), &l.q_bias, true));
  INGOT_TRY(loader.vector(p + "attn_k.bias", c.kv_dim(), &l.k_bias, true));
  INGOT_TRY(loader.vector(p + "attn_v.bias", c.kv_dim(), &l.v_bias, true));
  INGOT_TRY(loader.vector(p + "attn_output.bias", c.hidden, &l.attn_output_bias, true));
  INGOT_TRY(loader.vector(p + "ffn_norm.weight", c.hidden, &l.ffn_norm));
  INGOT_TRY(loader.matrix(p + "ffn_gate.weight", c.ffn, c.hidden, &l.gate));
  INGOT_TRY(loader.matrix(p + "ffn_up.weight", c.ffn, c.hidden, &l.up));
  INGOT_TRY(loader.matrix(p + "ffn_down.weight", c.hidden, c.ffn, &l.down));
  INGOT_TRY(loader.load(options));
  return l;
}

Result<std::unique_ptr<Model>> Model::load(const Artifact& artifact, const LoadOptions& options) {
  std::unique_ptr<Model> m;
  Status loaded = within_memory("with the threads that run it (fewer take less)", [&]() -> Status {
    m.reset(new Model());
    m->pool_ = std::make_unique<ThreadPool>(options.threads);
    m->source_.tensors = artifact.tensors;
    INGOT_ASSIGN(m->config_, read_model_config(artifact));
    return m->load_tensors(artifact, options);
  });
  if (!loaded.ok()) {
    if (loaded.error().kind == ErrorKind::kInterrupted) return loaded.take_error();
    return loaded.take_error().during("loading " + artifact.path);
  }
  return m;
}

Status Model::load_tensors(const Artifact& artifact, const LoadOptions& options) {
  const uint64_t total = total_bytes(artifact);
  auto progress = [&] {
    if (options.on_progress) options.on_progress(weight_bytes_, total);
  };
  for (const auto& t : artifact.tensors) {
    int64_t layer = -1;
    if (t.name.starts_with("blk.")) std::from_chars(t.name.data() + 4, t.name.data() + t.name.size(), layer);
    if (layer >= config_.layers)
      return bad_input("tensor {} is in layer {}, but the metadata says {} layers", t.name, layer, config_.layers);
  }
  const LazyTensor* embedding = artifact.find("token_embd.weight");
  if (!embedding) return bad_input("tensor token_embd.weight is missing: is this a model?");
  const Shape shape = embedding->spec().shape;
  if (shape.rank != 2 || shape[0] < 1 || shape[0] > INT32_MAX)
    return bad_input("tensor token_embd.weight has shape {}; expected [tokens, {}]", to_string(shape),
                     config_.hidden);
  config_.vocab = shape[0];
  if (const int64_t n = tokenizer_size(artifact); n > config_.vocab)
    return bad_input(
        "the tokenizer has {} tokens but token_embd.weight only {} rows: they are not of one model", n,
        config_.vocab);
  ExecOptions exec;
  exec.threads = options.threads;
  exec.cancel = options.cancel;
  exec.memory = default_memory();  // once: what is free shrinks as layers come
  WeightLoader loader(artifact);
  std::vector<float> factors;
  const bool tied = !artifact.find("output.weight");
  INGOT_TRY(loader.matrix("token_embd.weight", config_.vocab, config_.hidden, &token_embedding_));
  if (!tied) INGOT_TRY(loader.matrix("output.weight", config_.vocab, config_.hidden, &output_));
  INGOT_TRY(loader.vector("output_norm.weight", config_.hidden, &output_norm_));
  INGOT_TRY(loader.vector(config_.longrope ? "rope_factors_short.weight" : "rope_freqs.weight", config_.rope_dim / 2, &factors,
                          !config_.longrope));
  INGOT_TRY(loader.load(exec));
  if (tied) {
    output_ = token_embedding_;
    output_.name = "output.weight";
  }
  weight_bytes_ += token_embedding_.bytes() + (tied ? 0 : output_.bytes());
  pack(&output_, options);
  load_rope(factors);
  for (int64_t i = 0; i < config_.layers; ++i) {
    if (options.cancel && options.cancel->cancelled()) return interrupted();
    INGOT_ASSIGN(auto layer, load_layer(artifact, config_, i, exec));
    weight_bytes_ += bytes_of_layer(layer);
    for (auto* w : {&layer.q, &layer.k, &layer.v, &layer.attn_output, &layer.gate, &layer.up, &layer.down})
      pack(w, options);
    layers_.push_back(std::move(layer));
    progress();
  }
  return Status();
}

std::string Model::element(const std::string& tensor, const Shape& index) const {
  const LazyTensor* t = source_.find(tensor);
  return t ? element_text(*t->node, index, tensor) : tensor;
}

std::string Model::nonfinite_weight(const std::vector<std::string>& prefixes) const {
  for (const auto& t : source_.tensors) {
    const TensorSpec s = t.spec();
    const Codec* codec = find_codec(s.type);
    const int64_t rows = s.shape.rank ? s.shape[0] : 1;
    const auto wanted = [&](const std::string& prefix) { return t.name.starts_with(prefix); };
    if (!codec || s.shape.elements() == 0 || std::none_of(prefixes.begin(), prefixes.end(), wanted)) continue;
    const auto step = static_cast<int64_t>(align_up(64, static_cast<uint64_t>(std::max<int64_t>(1, t.node->granularity()[0]))));
    for (int64_t r = 0; r < rows; r += step) {
      const Region region = Region::rows(s.shape, r, std::min(step, rows - r));
      const auto bytes = evaluate(t.node, region);
      if (!bytes.ok()) return "";
      std::vector<float> x(static_cast<size_t>(region.elements()));
      codec->decode(bytes->data(), region.elements(), x.data());
      if (const int64_t bad = first_nonfinite(x.data(), region.elements()); bad >= 0)
        return fmt::format("{} is {}", element_text(*t.node, index_in(region, bad), t.name),
                           std::isnan(x[static_cast<size_t>(bad)]) ? "NaN" : "infinite");
    }
  }
  return "";
}

// Where there is no memory for it, or no packed form, the plain one stays.
void Model::pack(WeightMatrix* w, const LoadOptions& options) {
  if (options.arithmetic != Arithmetic::kFast || !can_pack(w->type)) return;
  w->packed = pack_matrix(*pool_, *w);
  if (w->packed) w->data = nullptr;
}

namespace {

// How much of a pair's frequency yarn divides: 0 for the first pairs, 1 for the last ones, as transformers' _compute_yarn_parameters.
std::vector<double> yarn_ramp(const YarnConfig& y, int64_t dim, double base) {
  const auto pair_of = [&](double turns) {
    return static_cast<double>(dim) * std::log(static_cast<double>(y.original_context) / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
  };
  const double low = std::max(std::floor(pair_of(static_cast<double>(y.beta_fast))), 0.0);
  double high = std::min(std::ceil(pair_of(static_cast<double>(y.beta_slow))), static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  std::vector<double> ramp(static_cast<size_t>(dim / 2));
  for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return ramp;
}

}  // namespace

// As the reference: the exponent and the division by a factor in f32.
void Model::load_rope(const std::vector<float>& factors) {
  const int64_t n = config_.rope_dim / 2;
  rope_frequencies_.resize(static_cast<size_t>(n));
  std::vector<double> ramp;
  if (config_.yarn) ramp = yarn_ramp(*config_.yarn, config_.rope_dim, static_cast<double>(config_.rope_base));
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config_.rope_dim);
    float f = static_cast<float>(
        1.0 / std::pow(static_cast<double>(config_.rope_base), static_cast<double>(exponent)));
    if (!factors.empty()) f /= factors[at];
    const float scaled = f / config_.rope_scale;
    if (ramp.empty()) rope_frequencies_[at] = scaled;
    else rope_frequencies_[at] = static_cast<float>(static_cast<double>(scaled) * ramp[at] + static_cast<double>(f) * (1 - ramp[at]));
  }
}

}  // namespace ingot
