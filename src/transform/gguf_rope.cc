#include "transform/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "model/architecture.h"
#include "model/rope_config.h"

namespace ingot::transform {
namespace {

LazyTensor factors_tensor(const char* name, const std::vector<float>& factors) {
  std::vector<std::byte> bytes(factors.size() * sizeof(float));
  if (!bytes.empty()) std::memcpy(bytes.data(), factors.data(), bytes.size());
  return {name, make_memory_tensor({DType::kF32, {static_cast<int64_t>(factors.size())}}, std::move(bytes))};
}

// Llama 3's scaling: a factor for each frequency, stored as a tensor (the formula: meta-llama's apply_scaling). In
// single precision where the reference is, from a power that is exact to the last bit.
Result<std::vector<float>> llama3_factors(const Json& config, const RopeConfig& rope, int64_t dim, const std::string& what) {
  for (const char* key : {"rope_theta", "low_freq_factor", "high_freq_factor"}) INGOT_TRY(read_config_number(rope.values, key, what));
  const double base = config_number(rope.values, "rope_theta").value_or(config_number(config, "rope_theta").value_or(10000.0));
  for (const char* key : {"low_freq_factor", "high_freq_factor"})
    if (!config_number(rope.values, key)) return bad_input("{}: '{}' is of type llama3, but has no '{}'", what, rope.place, key);
  const auto factor = static_cast<float>(*rope.factor);
  const double low = *config_number(rope.values, "low_freq_factor"), high = *config_number(rope.values, "high_freq_factor");
  const double old_length = *rope.original_context;
  if (!(base > 0) || !(low > 0) || !(high >= low))
    return bad_input("{}: the numbers of the llama3 rope scaling make no sense: {}", what, json_brief(rope.values));
  std::vector<float> f(static_cast<size_t>(dim / 2));
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float power = static_cast<float>(std::pow(base, static_cast<double>(static_cast<float>(2 * i) / static_cast<float>(dim))));
    const float wave = static_cast<float>(2 * std::numbers::pi) / (1.0f / power);
    float& x = f[static_cast<size_t>(i)];
    if (wave < old_length / high) x = 1;
    else if (wave > old_length / low) x = factor;
    else {
      const float smooth = (static_cast<float>(old_length) / wave - static_cast<float>(low)) / static_cast<float>(high - low);
      x = 1.0f / ((1.0f - smooth) / factor + smooth);
    }
    if (!std::isfinite(x)) return bad_input("{}: the numbers of the llama3 rope scaling give no factor for pair {}: {}", what, i, json_brief(rope.values));
  }
  return f;
}

// One of longrope's lists, as it stands.
Result<LazyTensor> long_factors(const char* name, const std::vector<double>& list, const RopeConfig& rope, int64_t dim, const std::string& what) {
  if (static_cast<int64_t>(list.size()) != dim / 2)
    return bad_input("{}: '{}' has {} short and {} long factors, expected {}, one for each pair of a head's {} elements", what, rope.place,
                     rope.short_factors.size(), rope.long_factors.size(), dim / 2, dim);
  return factors_tensor(name, std::vector<float>(list.begin(), list.end()));
}

}  // namespace

bool is_rope_factors(std::string_view gguf_name) {
  return std::find(std::begin(kRopeFactors), std::end(kRopeFactors), gguf_name) != std::end(kRopeFactors);
}

Result<GgufRope> gguf_rope(const Json& config, const std::string& architecture, int64_t head_dim, const std::string& what) {
  INGOT_ASSIGN(const RopeConfig rope, read_rope_config(config, architecture, what));
  GgufRope out;
  const auto put = [&](const char* key, auto value) {
    out.metadata.emplace_back(fmt::format("{}.rope.scaling.{}", architecture, key), MetaValue{std::move(value)});
  };
  if (rope.type == "default") {
    if (rope.factor && *rope.factor != 1)
      out.notice = fmt::format("'{}' has a 'factor' of {}, but the type default, which scales nothing", rope.place, *rope.factor);
    return out;
  }
  if (rope.type == "dynamic") {
    // Up to there transformers has the plain angles; then it computes new ones for all positions as the text grows.
    out.notice = fmt::format("rope scaling is dynamic: up to {} tokens the angles are the plain ones, as they will be in the file; GGUF cannot "
                             "say how they change in longer texts", config_number(config, "max_position_embeddings").value_or(0));
    return out;
  }
  if (rope.type == "llama3") {
    INGOT_ASSIGN(const auto factors, llama3_factors(config, rope, head_dim, what));
    out.tensors.push_back(factors_tensor(kRopeFactors[0], factors));
    return out;
  }
  put("type", rope.type);
  double usual = 1;  // the magnitude that llama.cpp takes of itself
  if (rope.type != "longrope") put("factor", static_cast<float>(*rope.factor));
  if (rope.type == "linear") return out;
  put("original_context_length", static_cast<uint32_t>(*rope.original_context));
  if (rope.type == "yarn") {
    usual = yarn_magnitude(*rope.factor);
    if (rope.beta_fast != 32 || rope.beta_slow != 1) {
      put("yarn_beta_fast", static_cast<float>(rope.beta_fast));
      put("yarn_beta_slow", static_cast<float>(rope.beta_slow));
      out.notice = fmt::format("'beta_fast' and 'beta_slow' of '{}' are {} and {}: the file says so, but llama.cpp takes 32 and 1 of {} models",
                               rope.place, rope.beta_fast, rope.beta_slow, architecture);
    }
  } else {
    INGOT_ASSIGN(auto long_list, long_factors(kRopeFactors[1], rope.long_factors, rope, head_dim, what));
    INGOT_ASSIGN(auto short_list, long_factors(kRopeFactors[2], rope.short_factors, rope, head_dim, what));
    out.tensors = {std::move(long_list), std::move(short_list)};
  }
  if (const double more = rope.magnitude / usual; std::abs(more - 1) > 1e-6) put("attn_factor", static_cast<float>(more));
  return out;
}

}  // namespace ingot::transform
