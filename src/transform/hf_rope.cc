#include "transform/hf_rope.h"

#include <algorithm>
#include <cmath>

#include "exec/evaluate.h"
#include "formats/gguf.h"
#include "model/rope_config.h"
#include "quant/decode.h"
#include "transform/gguf_rope.h"
#include "transform/hf_config.h"

namespace ingot::transform {
namespace {

constexpr char kScaling[] = "rope_scaling", kOriginal[] = "original_max_position_embeddings";

class Rope {
 public:
  Rope(const Artifact& gguf, const Architecture& arch, int64_t dim, OrderedJson* config)
      : a_(gguf), arch_(arch), dim_(dim), config_(*config), type_key_(arch.name == "phi3" ? "type" : "rope_type") {}

  Status run() {
    std::vector<std::vector<float>> factors;
    for (const char* name : kRopeFactors) {
      INGOT_ASSIGN(auto list, read(name));
      factors.push_back(std::move(list));
    }
    std::string type;
    if (const auto* s = meta_string(a_, own("type"))) type = *s;
    if (!factors[1].empty() && !factors[2].empty()) add_longrope(factors[1], factors[2]);
    else if (!factors[0].empty()) add_factors(factors[0]);
    else if (type == "linear" || type == "yarn") add_stretched(type);
    return {};
  }

 private:
  std::string own(const char* key) const { return fmt::format("{}.rope.scaling.{}", arch_.name, key); }
  std::optional<OrderedJson> number(const char* key) const {
    const MetaValue* m = a_.meta(own(key));
    return m ? meta_number(*m) : std::nullopt;
  }

  // Empty where the file has none.
  Result<std::vector<float>> read(const char* name) const {
    std::vector<float> out;
    const LazyTensor* t = a_.find(name);
    if (!t) return out;
    const TensorSpec s = t->spec();
    const Decode decode = find_decode(s.type);
    if (!decode || s.shape.elements() != dim_ / 2)
      return bad_input("reading {}: the tensor '{}' is {} {}, expected {} numbers, one for each pair of a head's rotated elements", a_.path, name, info(s.type).name,
                       to_string(s.shape), dim_ / 2);
    INGOT_ASSIGN(const auto bytes, evaluate(t->node));
    out.resize(static_cast<size_t>(s.shape.elements()));
    decode(bytes.data(), s.shape.elements(), out.data());
    return out;
  }

  static OrderedJson list(const std::vector<float>& factors) {
    OrderedJson out = OrderedJson::array();
    for (const float f : factors) out.push_back(*meta_number(MetaValue{f}));
    return out;
  }

  // Whether a file made with this scaling has these factors, bit by bit.
  bool gives(const OrderedJson& scaling, const std::vector<float>& factors) const {
    Json config = config_;
    config[kScaling] = scaling;
    const auto rope = gguf_rope(config, arch_, dim_, "config.json");
    if (!rope.ok() || rope->tensors.size() != 1) return false;
    const auto bytes = evaluate(rope->tensors[0].node);
    return bytes.ok() && bytes->size() == factors.size() * sizeof(float) && std::memcmp(bytes->data(), factors.data(), bytes->size()) == 0;
  }

  // A factor for each pair: those of Llama 3's scaling, whose numbers are sought among those that models have. Others are a list, which transformers
  // reads as longrope's.
  void add_factors(const std::vector<float>& factors) {
    if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1; })) return;
    std::vector<double> originals = {8192}, stretches = {static_cast<double>(factors.back())};
    for (double n = 32; n <= (1 << 20); n *= 2) originals.push_back(n);
    for (double n = 2; n <= 64; n *= 2) stretches.push_back(n);
    for (const double low : {1.0, 2.0})
      for (const double high : {4.0, 2.0, 8.0, 1.0})
        for (const double stretch : stretches)
          for (const double original : originals) {
            if (high < low) continue;
            const OrderedJson s = {{type_key_, "llama3"}, {"factor", stretch}, {"low_freq_factor", low}, {"high_freq_factor", high}, {kOriginal, static_cast<int64_t>(original)}};
            if (!gives(s, factors)) continue;
            config_[kScaling] = s;
            return;
          }
    const OrderedJson pairs = list(factors);
    config_[kScaling] = {{type_key_, "longrope"}, {"short_factor", pairs}, {"long_factor", pairs}, {"attention_factor", 1.0},
                         {kOriginal, config_.value("max_position_embeddings", OrderedJson(1))}};
  }

  void add_longrope(const std::vector<float>& longer, const std::vector<float>& shorter) {
    OrderedJson& s = config_[kScaling] = {{type_key_, "longrope"}, {"short_factor", list(shorter)}, {"long_factor", list(longer)}};
    const auto original = number("original_context_length");
    if (original && !config_.contains(kOriginal)) s[kOriginal] = *original;
    set_magnitude(number("attn_factor").value_or(1.0), 1);
  }

  void add_stretched(const std::string& type) {
    const auto factor = number("factor");
    if (!factor) return;
    OrderedJson& s = config_[kScaling] = {{type_key_, type}, {"factor", *factor}};
    if (type == "linear") return;
    if (const auto original = number("original_context_length")) s[kOriginal] = *original;
    for (const auto& [key, name] : {std::pair("yarn_beta_fast", "beta_fast"), {"yarn_beta_slow", "beta_slow"}})
      if (const auto n = number(key)) s[name] = *n;
    set_magnitude(number("attn_factor").value_or(1.0), yarn_magnitude(factor->get<double>()));
  }

  // What cosines and sines are multiplied by, where it is not what the class takes of itself.
  void set_magnitude(double more, double usual) {
    const auto rope = read_rope_config(Json(config_), arch_, "config.json");
    if (!rope.ok() || std::abs(rope->magnitude / (usual * more) - 1) > 1e-6) config_[kScaling]["attention_factor"] = usual * more;
  }

  const Artifact& a_;
  const Architecture& arch_;
  int64_t dim_;
  OrderedJson& config_;
  const char* type_key_;  // Phi-3's older classes read three members and no other names
};

}  // namespace

Status add_rope_scaling(const Artifact& gguf, const Architecture& arch, int64_t rope_dim, OrderedJson* config) { return Rope(gguf, arch, rope_dim, config).run(); }

}  // namespace ingot::transform
