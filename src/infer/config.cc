// Reading and checking ModelConfig. Metadata is untrusted: every number has a range.
#include "infer/config.h"

#include <cmath>
#include <optional>
#include <type_traits>

#include "formats/gguf.h"
#include "transform/gguf_check.h"

namespace ingot {
namespace {

// A number of any width, or an array whose elements are all the same number (some writers give one a layer).
std::optional<double> number(const MetaValue& m) {
  return std::visit(
      [](const auto& v) -> std::optional<double> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, bool>) {
          return std::nullopt;
        } else if constexpr (std::is_arithmetic_v<T>) {
          return static_cast<double>(v);
        } else if constexpr (std::is_same_v<T, std::vector<int32_t>> ||
                             std::is_same_v<T, std::vector<uint32_t>> ||
                             std::is_same_v<T, std::vector<float>>) {
          if (v.empty()) return std::nullopt;
          for (const auto& x : v)
            if (x != v[0]) return std::nullopt;
          return static_cast<double>(v[0]);
        } else {
          return std::nullopt;
        }
      },
      m.v);
}

class Reader {
 public:
  Reader(const Artifact& artifact, std::string arch) : artifact_(artifact), arch_(std::move(arch)) {}

  const MetaValue* find(std::string_view key) const { return artifact_.meta(arch_ + "." + std::string(key)); }

  // `fallback` < 0: the key must be there.
  Result<int64_t> integer(std::string_view key, int64_t min, int64_t max, int64_t fallback = -1) const {
    const MetaValue* m = find(key);
    if (!m && fallback >= 0) return fallback;
    if (!m) return missing(key);
    const auto v = number(*m);
    if (!v) return bad_input("metadata {}.{} is not one whole number that holds for all layers", arch_, key);
    if (!(*v >= static_cast<double>(min) && *v <= static_cast<double>(max)) || *v != std::floor(*v))
      return bad_input("metadata {}.{} is {}; expected a whole number from {} to {}", arch_, key, *v, min,
                       max);
    return static_cast<int64_t>(*v);
  }
  Result<float> real(std::string_view key, double min, double max, std::optional<double> fallback) const {
    const MetaValue* m = find(key);
    if (!m && fallback) return static_cast<float>(*fallback);
    if (!m) return missing(key);
    const auto v = number(*m);
    if (!v || !(*v >= min && *v <= max))
      return bad_input("metadata {}.{} is {}; expected a number from {} to {}", arch_, key,
                       v ? fmt::format("{}", *v) : std::string("not a number"), min, max);
    return static_cast<float>(*v);
  }

 private:
  Error missing(std::string_view key) const {
    return bad_input("metadata {}.{} is missing; without it the model cannot be run", arch_, key);
  }
  const Artifact& artifact_;
  std::string arch_;
};

Status read_yarn(const Reader& r, int64_t original, ModelConfig* c) {
  YarnConfig yarn{original};
  INGOT_ASSIGN(yarn.beta_fast, r.real("rope.scaling.yarn_beta_fast", 1e-6, 1e6, 32.0));
  INGOT_ASSIGN(yarn.beta_slow, r.real("rope.scaling.yarn_beta_slow", 1e-6, 1e6, 1.0));
  const float usual = c->rope_scale <= 1 ? 1.0f : 0.1f * std::log(c->rope_scale) + 1.0f;
  c->rope_magnitude *= usual;
  // Their readers do not agree on what others would mean.
  for (const auto& [key, plain] : {std::pair{"yarn_ext_factor", 1.0f}, {"yarn_log_multiplier", 0.0f}, {"yarn_attn_factor", usual}}) {
    INGOT_ASSIGN(const float value, r.real(std::string("rope.scaling.") + key, -1e9, 1e9, plain));
    if (std::abs(value - plain) > 1e-5f && !(plain == usual && value == 1.0f))
      return bad_input("metadata {}.rope.scaling.{} is {}: not supported yet", c->architecture, key, value);
  }
  if (!(c->rope_base > 1))
    return bad_input("metadata {}.rope.freq_base is {}, which yarn cannot stretch; expected more than 1", c->architecture, c->rope_base);
  c->yarn = yarn;
  return Status();
}

Status read_rope(const Reader& r, ModelConfig* c) {
  INGOT_ASSIGN(c->rope_dim, r.integer("rope.dimension_count", 0, c->head_dim, c->head_dim));
  if (c->rope_dim % 2)
    return bad_input("metadata {}.rope.dimension_count is odd: {}", c->architecture, c->rope_dim);
  INGOT_ASSIGN(c->rope_base, r.real("rope.freq_base", 1e-3, 1e30, 10000.0));
  INGOT_ASSIGN(c->rope_base_sliding, r.real("rope.freq_base_swa", 1e-3, 1e30, c->kinds().sliding_base.value_or(static_cast<double>(c->rope_base))));
  INGOT_ASSIGN(c->rope_magnitude, r.real("rope.scaling.attn_factor", 1e-6, 1e6, 1.0));
  std::string type = "none";
  if (const MetaValue* m = r.find("rope.scaling.type"))
    if (const auto* s = std::get_if<std::string>(&m->v)) type = *s;
  if (type == "none") return Status();
  if (type != "linear" && type != "yarn" && type != "longrope")
    return bad_input(
        "metadata {}.rope.scaling.type is '{}': supported are none, linear, yarn, longrope, and Llama 3's factors in the "
        "tensor rope_freqs.weight",
        c->architecture, type);
  INGOT_ASSIGN(const int64_t original, r.integer("rope.scaling.original_context_length", 1, INT64_C(1) << 40, c->context));
  if (type == "longrope") {
    c->longrope = original;
    return Status();
  }
  INGOT_ASSIGN(c->rope_scale, r.real("rope.scaling.factor", 1e-6, 1e9, 1.0));
  return type == "yarn" ? read_yarn(r, original, c) : Status();
}

// Of each layer: every one, a list, or by the architecture's own pattern.
Status read_layers(const Reader& r, ModelConfig* c) {
  const LayerKinds& kinds = c->kinds();
  INGOT_ASSIGN(const int64_t window, r.integer("attention.sliding_window", 0, INT64_C(1) << 40, 0));
  std::vector<bool> list;
  int64_t period = c->rules->window ? c->rules->window->period : 0;
  if (const MetaValue* m = r.find("attention.sliding_window_pattern")) {
    if (const auto* array = std::get_if<MetaArray>(&m->v)) {
      for (const MetaValue& e : *array)
        if (const bool* b = std::get_if<bool>(&e.v)) list.push_back(*b);
      if (static_cast<int64_t>(array->size()) != c->layers || static_cast<int64_t>(list.size()) != c->layers)
        return bad_input("metadata {}.attention.sliding_window_pattern has {} entries, expected true or false for each of {} layers", c->architecture, array->size(), c->layers);
    } else {
      INGOT_ASSIGN(period, r.integer("attention.sliding_window_pattern", 0, 1 << 16));
    }
  }
  for (int64_t i = 0; i < c->layers; ++i) {
    LayerPlan plan;
    const bool sliding = window > 0 && (!list.empty() ? static_cast<bool>(list[static_cast<size_t>(i)]) : but_every(period, i));
    plan.window = sliding && window < c->context ? window : 0;
    plan.rope = has_rope(kinds, i, sliding);
    plan.sliding_angles = sliding && kinds.sliding_rope == "own";
    c->plan.push_back(plan);
  }
  return {};
}

Status read_experts(const Reader& r, ModelConfig* c) {
  INGOT_ASSIGN(c->experts, r.integer("expert_count", 0, 1 << 16, 0));
  const bool known = c->rules->params.count("experts") > 0;
  if ((c->experts > 0) != known)
    return bad_input("metadata {}.expert_count is {}: ingot cannot run {} models {} experts", c->architecture, c->experts, c->architecture, known ? "without" : "with");
  if (!known) return {};
  INGOT_ASSIGN(c->experts_used, r.integer("expert_used_count", 1, c->experts));
  INGOT_ASSIGN(c->ffn_expert, r.integer("expert_feed_forward_length", 1, 1 << 24, c->ffn));
  INGOT_ASSIGN(c->ffn_shared, r.integer("expert_shared_feed_forward_length", 0, 1 << 24, 0));
  return {};
}

Status read_scales(const Reader& r, ModelConfig* c) {
  const LayerKinds& k = c->kinds();
  const Params params = {{"layers", c->layers}, {"hidden", c->hidden}, {"heads", c->heads}, {"head_dim", c->head_dim}};
  INGOT_ASSIGN(c->attention_scale, r.real("attention.scale", 1e-9, 1e9, static_cast<double>(1.0f / std::sqrt(static_cast<float>(usual_attention_divisor(k, params))))));
  INGOT_ASSIGN(c->attention_cap, r.real("attn_logit_softcapping", 0, 1e9, 0.0));
  INGOT_ASSIGN(c->logit_cap, r.real("final_logit_softcapping", 0, 1e9, 0.0));
  // Nothing is cut off by it (so a file says that there is none), and tanh of so little would have more of an error than a difference.
  for (float* cap : {&c->attention_cap, &c->logit_cap})
    if (*cap >= 1e6f) *cap = 0;
  INGOT_ASSIGN(c->embedding_scale, r.real("embedding_scale", 1e-9, 1e9, k.embedding_scale == "sqrt_hidden" ? std::sqrt(static_cast<double>(c->hidden)) : 1.0));
  INGOT_ASSIGN(c->residual_scale, r.real("residual_scale", 1e-9, 1e9, 1.0));
  INGOT_ASSIGN(const float logits, r.real("logit_scale", 1e-9, 1e9, 1.0));
  c->logit_scale = k.logit_scale == "divide" ? 1 / logits : logits;
  c->parallel = k.parallel;
  if (k.parallel_by.empty()) return {};
  const MetaValue* m = r.find(k.parallel_by);
  const bool* flag = m ? std::get_if<bool>(&m->v) : nullptr;
  if (!flag) return bad_input("metadata {}.{} is {}; expected true or false", c->architecture, k.parallel_by, m ? "of another type" : "missing");
  c->parallel = *flag;
  return {};
}

}  // namespace

Result<ModelConfig> read_model_config(const Artifact& artifact) {
  const std::string* name = meta_string(artifact, "general.architecture");
  if (!name)
    return bad_input("metadata general.architecture is missing: this is not a model that can be run");
  ModelConfig c;
  c.architecture = *name;
  c.rules = transform::architecture_of(artifact);
  if (!c.rules) {
    INGOT_ASSIGN(const auto* all, architectures());
    std::vector<std::string> names;
    for (const auto& a : *all)
      if (names.empty() || names.back() != a.name) names.push_back(a.name);
    return bad_input("architecture '{}' cannot be run; known: {}", *name, fmt::join(names, ", "));
  }
  const Reader r(artifact, *name);
  INGOT_ASSIGN(c.layers, r.integer("block_count", 1, 1 << 16));
  INGOT_ASSIGN(c.hidden, r.integer("embedding_length", 1, 1 << 22));
  INGOT_ASSIGN(c.heads, r.integer("attention.head_count", 1, 1 << 16));
  INGOT_ASSIGN(c.kv_heads, r.integer("attention.head_count_kv", 1, 1 << 16, c.heads));
  if (c.heads % c.kv_heads)
    return bad_input(
        "metadata {0}.attention.head_count is {1}, not a multiple of {0}.attention.head_count_kv, {2}", *name,
        c.heads, c.kv_heads);
  if (!r.find("attention.key_length") && c.hidden % c.heads)
    return bad_input(
        "metadata {0}.embedding_length is {1}, not a multiple of {0}.attention.head_count, {2}, and "
        "{0}.attention.key_length is missing",
        *name, c.hidden, c.heads);
  INGOT_ASSIGN(c.head_dim, r.integer("attention.key_length", 1, 1 << 16, c.hidden / c.heads));
  if (c.head_dim < 1)
    return bad_input("metadata {}.attention.head_count is larger than the hidden size", *name);
  INGOT_ASSIGN(const int64_t value_dim, r.integer("attention.value_length", 1, 1 << 16, c.head_dim));
  if (value_dim != c.head_dim)
    return bad_input(
        "metadata {0}.attention.value_length is {1}, {0}.attention.key_length {2}: different lengths are "
        "not supported",
        *name, value_dim, c.head_dim);
  INGOT_ASSIGN(c.ffn, r.integer("feed_forward_length", 1, 1 << 24));
  INGOT_ASSIGN(c.context, r.integer("context_length", 1, INT64_C(1) << 40));
  const char* eps = c.kinds().norm == "layer" ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
  INGOT_ASSIGN(c.norm_eps, r.real(eps, 0, 1, std::nullopt));
  c.usable = c.context;
  INGOT_TRY(read_experts(r, &c));
  INGOT_TRY(read_scales(r, &c));
  INGOT_TRY(read_rope(r, &c));
  INGOT_TRY(read_layers(r, &c));
  return c;
}

}  // namespace ingot
