// Loading a model: every tensor by its GGUF name, shapes checked against the metadata.
#include "infer/model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <list>
#include <numbers>

#include "base/memory.h"
#include "exec/evaluate.h"
#include "exec/plan.h"
#include "formats/gguf_scales.h"
#include "infer/layer_stream.h"
#include "infer/bf16_tiles.h"
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

// -1 of a tensor that is in none.
int64_t layer_number(const std::string& name) {
  int64_t layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

// Where a tensor of a layer goes, by what follows "blk.{i}." in its name.
using Norm = LayerWeights::Norm;
using Linear = LayerWeights::Linear;
struct Place {
  std::string_view name;
  Linear LayerWeights::*linear = nullptr;
  Norm LayerWeights::*norm = nullptr;
  WeightMatrix LayerWeights::*matrix = nullptr;
  std::vector<WeightMatrix> LayerWeights::*experts = nullptr;
  std::vector<float> LayerWeights::*vector = nullptr;
};
Place linear(std::string_view name, Linear LayerWeights::*p) { return {.name = name, .linear = p}; }
Place norm(std::string_view name, Norm LayerWeights::*p) { return {.name = name, .norm = p}; }
Place experts(std::string_view name, std::vector<WeightMatrix> LayerWeights::*p) { return {.name = name, .experts = p}; }

const std::vector<Place>& places() {
  using L = LayerWeights;
  static const std::vector<Place> all = {
      norm("attn_norm", &L::attn_norm), norm("attn_q_norm", &L::q_norm), norm("attn_k_norm", &L::k_norm), norm("post_attention_norm", &L::post_attention_norm),
      norm("ffn_norm", &L::ffn_norm), norm("post_ffw_norm", &L::post_ffn_norm), linear("attn_q", &L::q), linear("attn_k", &L::k), linear("attn_v", &L::v),
      linear("attn_qkv", &L::qkv), linear("attn_output", &L::attn_output), linear("ffn_gate", &L::gate), linear("ffn_up", &L::up), linear("ffn_down", &L::down),
      {.name = "ffn_gate_inp", .matrix = &L::router}, experts("ffn_gate_exps", &L::expert_gate), experts("ffn_up_exps", &L::expert_up),
      experts("ffn_down_exps", &L::expert_down), {.name = "ffn_gate_inp_shexp", .vector = &L::shared_router}, linear("ffn_gate_shexp", &L::shared_gate),
      linear("ffn_up_shexp", &L::shared_up), linear("ffn_down_shexp", &L::shared_down)};
  return all;
}

// The matrices that products are made with.
template <class F>
void for_each_matrix(LayerWeights& l, F f) {
  for (const Place& p : places()) {
    if (p.linear) f((l.*p.linear).w);
    if (p.matrix) f(l.*p.matrix);
    if (p.experts)
      for (auto& w : l.*p.experts) f(w);
  }
}

Params params_of(const ModelConfig& c) {
  return {{"hidden", c.hidden}, {"ffn", c.ffn}, {"heads", c.heads}, {"kv_heads", c.kv_heads}, {"head_dim", c.head_dim}, {"vocab", c.vocab}, {"positions", c.context},
          {"experts", c.experts}, {"ffn_exp", c.ffn_expert}, {"ffn_shared", c.ffn_shared}};
}

// Tensors of a layer that the engine has no place for would be left out in silence.
Error no_place(const std::string& name) { return bad_input("tensor {} cannot be run: the engine knows no such part of a layer", name); }

}  // namespace

Result<LayerWeights> load_layer(const Artifact& artifact, const ModelConfig& c, int64_t layer, const ExecOptions& options) {
  LayerWeights l;
  WeightLoader loader(artifact);
  struct Scales {
    std::vector<float> values;
    std::vector<WeightMatrix*> matrices;
  };
  std::list<Scales> scales;  // which stay where they are
  const Params params = params_of(c);
  for (const TensorRule& rule : c.rules->tensors) {
    if (!rule.per_layer() || rule.alternative) continue;
    for (size_t k = 0; k < rule.gguf.size(); ++k) {
      const std::string name = expand(rule.gguf[k], static_cast<int>(layer));
      if (rule.optional && !artifact.find(name)) continue;
      INGOT_ASSIGN(const Shape shape, shape_of(rule.gguf_shape(k), params, name));
      std::string_view part = name;
      part.remove_prefix(part.find('.', 4) + 1);
      const bool bias = part.ends_with(".bias");
      part = part.substr(0, part.rfind('.'));
      const auto place = std::find_if(places().begin(), places().end(), [&](const Place& p) { return p.name == part; });
      if (place == places().end() || (bias && !place->linear && !place->norm)) return no_place(name);
      if (place->norm) INGOT_TRY(loader.vector(name, shape, &((l.*place->norm).*(bias ? &Norm::bias : &Norm::weight))));
      else if (bias) INGOT_TRY(loader.vector(name, shape, &(l.*place->linear).bias));
      else if (place->vector) INGOT_TRY(loader.vector(name, shape, &(l.*place->vector)));
      else if (place->experts) INGOT_TRY(loader.matrices(name, shape, &(l.*place->experts)));
      else INGOT_TRY(loader.matrix(name, shape[0], shape[1], place->linear ? &(l.*place->linear).w : &(l.*place->matrix)));
      const LazyTensor* scale = bias ? nullptr : artifact.find(gguf_scale_name(name));
      if (!scale || (!place->linear && !place->experts)) continue;
      scales.push_back({});
      if (place->linear) scales.back().matrices.push_back(&(l.*place->linear).w);
      else
        for (auto& w : l.*place->experts) scales.back().matrices.push_back(&w);
      INGOT_TRY(loader.vector(scale->name, scale->spec().shape, &scales.back().values));
    }
  }
  INGOT_TRY(loader.load(options));
  for (const Scales& s : scales)
    for (size_t k = 0; k < s.matrices.size(); ++k) s.matrices[k]->scale = s.values[s.values.size() == s.matrices.size() ? k : 0];
  return l;
}

uint64_t weight_bytes(const Artifact& artifact, bool resident, Arithmetic arithmetic) {
  std::vector<uint64_t> layers;
  uint64_t n = 0;
  for (const auto& t : artifact.tensors) {
    const TensorSpec spec = t.spec();
    uint64_t bytes = bytes_of(spec);
    if (arithmetic == Arithmetic::kFast && spec.shape.rank >= 2 && spec.shape.elements() > 0 && can_pack(spec.type)) {
      const int64_t matrices = spec.shape.rank > 2 ? spec.shape[0] : 1, cols = spec.shape.back();
      const uint64_t packed = static_cast<uint64_t>(matrices) * packed_bytes(spec.type, spec.shape.elements() / matrices / cols, cols);
      // An embedding that is the output's matrix, too, is there in both forms.
      bytes = t.name == "token_embd.weight" && !artifact.find("output.weight") ? bytes + packed : std::max(bytes, packed);
    }
    n += bytes;
    const int64_t layer = layer_number(t.name);
    if (resident || layer < 0 || layer > 65535) continue;
    n -= bytes;
    if (layers.size() <= static_cast<size_t>(layer)) layers.resize(static_cast<size_t>(layer) + 1);
    layers[static_cast<size_t>(layer)] += bytes;
  }
  return n + (layers.empty() ? 0 : 2 * *std::max_element(layers.begin(), layers.end()));
}

Model::Model() = default;
Model::~Model() = default;

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
  const uint64_t total = weight_bytes(artifact, options.resident);
  // What is larger packed than in its file stays as it is where memory is short: slower, but it runs.
  pack_larger_ = weight_bytes(artifact, options.resident, Arithmetic::kFast) <= 4 * default_memory();
  auto progress = [&] {
    if (options.on_progress) options.on_progress(weight_bytes_, total);
  };
  for (const auto& t : artifact.tensors) {
    if (const int64_t layer = layer_number(t.name); layer >= config_.layers)
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
  std::vector<float> factors, long_factors;
  const bool tied = !artifact.find("output.weight");
  for (const TensorRule& rule : config_.rules->tensors) {
    const std::string& name = rule.gguf[0];
    if (rule.per_layer() || (!artifact.find(name) && (rule.optional || rule.role == "output"))) continue;
    INGOT_ASSIGN(const Shape shape, shape_of(rule.gguf_shape(0), params_of(config_), name));
    WeightMatrix* matrix = name == "token_embd.weight" ? &token_embedding_ : name == "output.weight" ? &output_ : name == "position_embd.weight" ? &position_embedding_ : nullptr;
    std::vector<float>* vector = name == "output_norm.weight" ? &output_norm_.weight : name == "output_norm.bias" ? &output_norm_.bias : nullptr;
    if (matrix) INGOT_TRY(loader.matrix(name, shape[0], shape[1], matrix));
    else if (vector) INGOT_TRY(loader.vector(name, shape, vector));
    else return no_place(name);
  }
  const Shape pairs{config_.rope_dim / 2};
  const char* usual = config_.longrope ? "rope_factors_short.weight" : "rope_freqs.weight";
  if (config_.longrope || artifact.find(usual)) INGOT_TRY(loader.vector(usual, pairs, &factors));
  if (config_.longrope) INGOT_TRY(loader.vector("rope_factors_long.weight", pairs, &long_factors));
  std::vector<float> output_scale;
  if (const LazyTensor* scale = artifact.find("output.scale"); scale && !tied && output_.type == DType::kNVFP4) INGOT_TRY(loader.vector(scale->name, {1}, &output_scale));
  INGOT_TRY(loader.load(exec));
  if (!output_scale.empty()) output_.scale = output_scale[0];
  if (tied) {
    output_ = token_embedding_;
    output_.name = "output.weight";
  }
  weight_bytes_ += token_embedding_.bytes() + (tied ? 0 : output_.bytes());
  pack(&output_, options.arithmetic);
  rope_frequencies_[static_cast<size_t>(Angles::kUsual)] = make_angles(factors, false);
  rope_frequencies_[static_cast<size_t>(Angles::kLong)] = make_angles(long_factors, false);
  rope_frequencies_[static_cast<size_t>(Angles::kSliding)] = make_angles({}, true);
  if (!options.resident) {
    LoadOptions later = options;
    later.on_progress = nullptr;
    stream_ = std::make_unique<LayerStream>(config_.layers, [this, artifact, later, exec](int64_t layer) -> Result<LayerWeights> {
      auto loaded = load_packed(artifact, layer, later, exec);
      if (!loaded.ok() && loaded.error().kind != ErrorKind::kInterrupted) return loaded.take_error().during("loading " + artifact.path);
      return loaded;
    });
    progress();
    return Status();
  }
  for (int64_t i = 0; i < config_.layers; ++i) {
    if (options.cancel && options.cancel->cancelled()) return interrupted();
    INGOT_ASSIGN(auto layer, load_packed(artifact, i, options, exec));
    for_each_matrix(layer, [&](const WeightMatrix& w) { weight_bytes_ += w.bytes(); });
    layers_.push_back(std::make_shared<const LayerWeights>(std::move(layer)));
    progress();
  }
  return Status();
}

Result<LayerWeights> Model::load_packed(const Artifact& artifact, int64_t layer, const LoadOptions& options, const ExecOptions& exec) {
  INGOT_ASSIGN(auto loaded, load_layer(artifact, config_, layer, exec));
  for_each_matrix(loaded, [&](WeightMatrix& w) {
    if (w) pack(&w, options.arithmetic);
  });
  return loaded;
}

Result<std::shared_ptr<const LayerWeights>> Model::layer(int64_t layer) const {
  if (stream_) return stream_->get(layer);
  return layers_[static_cast<size_t>(layer)];
}

void Model::keep_head() {
  layers_.clear();
  stream_.reset();
}

std::string Model::element(const std::string& tensor, const Shape& index) const {
  const LazyTensor* t = source_.find(tensor);
  return t ? element_text(*t->node, index, tensor) : tensor;
}

std::string Model::nonfinite_weight(const std::vector<std::string>& prefixes) const {
  for (const auto& t : source_.tensors) {
    const TensorSpec s = t.spec();
    const Decode decode = find_decode(s.type);
    const int64_t rows = s.shape.rank ? s.shape[0] : 1;
    const auto wanted = [&](const std::string& prefix) { return t.name.starts_with(prefix); };
    if (!decode || s.shape.elements() == 0 || std::none_of(prefixes.begin(), prefixes.end(), wanted)) continue;
    const auto step = static_cast<int64_t>(align_up(64, static_cast<uint64_t>(std::max<int64_t>(1, t.node->granularity()[0]))));
    for (int64_t r = 0; r < rows; r += step) {
      const Region region = Region::rows(s.shape, r, std::min(step, rows - r));
      const auto bytes = evaluate(t.node, region);
      if (!bytes.ok()) return "";
      std::vector<float> x(static_cast<size_t>(region.elements()));
      decode(bytes->data(), region.elements(), x.data());
      if (const int64_t bad = first_nonfinite(x.data(), region.elements()); bad >= 0)
        return fmt::format("{} is {}", element_text(*t.node, index_in(region, bad), t.name),
                           std::isnan(x[static_cast<size_t>(bad)]) ? "NaN" : "infinite");
    }
  }
  return "";
}

// Where there is no memory for a packed form, or none, the plain one stays.
void Model::pack(WeightMatrix* w, Arithmetic arithmetic) {
  if (arithmetic != Arithmetic::kFast) return;
  w->by_tiles = can_multiply_by_tiles(w->type);
  if (!can_pack(w->type) || (!pack_larger_ && packed_bytes(w->type, w->rows, w->cols) > w->bytes())) return;
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

// As the references: the exponent and the division by a factor in f32, of longrope in transformers' order.
std::vector<float> Model::make_angles(const std::vector<float>& factors, bool sliding) const {
  const int64_t n = config_.rope_dim / 2;
  std::vector<float> out(static_cast<size_t>(n));
  const float base = sliding ? config_.rope_base_sliding : config_.rope_base;
  std::vector<double> ramp;
  if (config_.yarn && !sliding) ramp = yarn_ramp(*config_.yarn, config_.rope_dim, static_cast<double>(base));
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config_.rope_dim);
    const double power = std::pow(static_cast<double>(base), static_cast<double>(exponent));
    float f = static_cast<float>(1.0 / power);
    if (!factors.empty()) f = config_.longrope ? 1.0f / (factors[at] * static_cast<float>(power)) : f / factors[at];
    const float scaled = sliding ? f : f / config_.rope_scale;
    if (ramp.empty()) out[at] = scaled;
    else out[at] = static_cast<float>(static_cast<double>(scaled) * ramp[at] + static_cast<double>(f) * (1 - ramp[at]));
  }
  return out;
}

}  // namespace ingot
