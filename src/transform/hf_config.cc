#include "transform/hf_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/gguf.h"
#include "formats/hf_weights.h"
#include "model/model_config.h"
#include "transform/gguf_check.h"
#include "transform/gguf_metadata.h"
#include "transform/gguf_rope.h"
#include "transform/hf_rope.h"

namespace ingot::transform {
namespace {

constexpr char kWindowKey[] = "attention.sliding_window", kPatternKey[] = "attention.sliding_window_pattern", kBaseKey[] = "rope.freq_base", kLocalBaseKey[] = "rope.freq_base_swa";

// A key of config.json by itself, no path and no number.
bool is_plain(const std::string& path) { return path.find_first_of("*/.") == std::string::npos && !(path[0] >= '0' && path[0] <= '9'); }

const std::string* plain_key(const std::vector<std::string>& from) {
  const auto it = std::find_if(from.begin(), from.end(), is_plain);
  return it == from.end() ? nullptr : &*it;
}

bool same_number(const MetaValue& a, const MetaValue& b) {
  const auto x = meta_number(a), y = meta_number(b);
  return x && y && *x == *y;
}

class Builder {
 public:
  Builder(const Artifact& gguf, const Architecture& arch) : a_(gguf), arch_(arch), param_(metadata_params(gguf, arch)), what_("making config.json of " + gguf.path) {}

  Result<HfConfig> run() {
    c_["architectures"] = {arch_.classes[0]};
    c_["model_type"] = arch_.model_types[0];
    INGOT_TRY(from_metadata());
    from_params();
    HfConfig out;
    from_tensors(&out.lost);
    windows();
    if (const MetaValue* m = a_.meta(own("attention.scale")); !arch_.layer.attention_key.empty()) INGOT_TRY(attention_scale(m));
    INGOT_TRY(rope());
    c_["dtype"] = "float32";  // that of the weights, once they are laid out
    INGOT_ASSIGN(const Artifact again, written_again());
    compare(again, &out.lost);
    out.config = std::move(c_);
    return out;
  }

 private:
  std::string own(const char* key) const { return arch_.name + "." + key; }
  std::optional<int64_t> param(const std::string& name) const { return param_(name, 0); }

  // One number, flag or text; of a list with one for each layer what they have in common.
  Result<OrderedJson> value_of(const std::string& key, const MetaValue& m) const {
    if (const auto n = meta_number(m)) return *n;
    if (const auto* b = std::get_if<bool>(&m.v)) return OrderedJson(*b);
    if (const auto* s = std::get_if<std::string>(&m.v)) return OrderedJson(*s);
    std::vector<OrderedJson> list;
    std::visit([&](const auto& v) {
      using T = std::decay_t<decltype(v)>;
      if constexpr (std::is_same_v<T, MetaArray>) for (const MetaValue& e : v) list.push_back(meta_number(e).value_or(OrderedJson()));
      else if constexpr (std::is_same_v<T, std::vector<int32_t>> || std::is_same_v<T, std::vector<uint32_t>> || std::is_same_v<T, std::vector<float>>)
        for (const auto e : v) list.push_back(*meta_number(MetaValue{e}));
    }, m.v);
    if (!list.empty() && std::all_of(list.begin(), list.end(), [&](const OrderedJson& e) { return e == list[0] && !e.is_null(); })) return list[0];
    return bad_input("{}: '{}' has another value in some layers, and config.json of {} has one for all", what_, key, arch_.classes[0]);
  }

  Status from_metadata() {
    for (const MetadataRule& r : arch_.metadata) {
      const MetaValue* m = r.special.empty() && !r.from.empty() ? a_.meta(r.key) : nullptr;
      const std::string* key = m ? plain_key(r.from) : nullptr;
      if (!key || c_.contains(*key) || (arch_.params.count("rope_dim") && r.key == own("rope.dimension_count"))) continue;
      INGOT_ASSIGN(c_[*key], value_of(r.key, *m));
      if (r.off && c_[*key] == *r.off) c_[*key] = nullptr;
    }
    for (const auto& [key, r] : arch_.require)
      if (is_plain(key) && !c_.contains(key) && !r.values[0].is_null()) c_[key] = OrderedJson(r.values[0]);
    return {};
  }

  // What no key says, but the shapes or another number.
  void from_params() {
    for (const auto& [name, from] : arch_.params) {
      const std::string& key = from[0];
      const auto v = param(name);
      if (!v || !is_plain(key) || c_.contains(key)) continue;
      const auto hidden = param("hidden"), heads = param("heads");
      const bool usual = name == "head_dim" && !arch_.defaults.contains(key) && hidden && heads && *heads * *v == *hidden;
      if (!usual) c_[key] = *v;
    }
  }

  void from_tensors(std::vector<std::string>* lost) {
    const auto has = [&](const TensorRule& r) { return a_.find(expand(r.gguf[0], 0)) != nullptr; };
    for (const TensorRule& r : arch_.tensors)
      if (!r.announced.empty()) c_[r.announced] = has(r) || c_.value(r.announced, OrderedJson(false)) == true;
    for (const TensorRule& r : arch_.tensors)
      if (!r.announced.empty() && c_[r.announced] == true && !has(r))
        lost->push_back(fmt::format("'{}' of config.json is true for what the file has, and announces '{}', too, which it has not: transformers will make it, of zeros",
                                    r.announced, expand(r.hf[0], 0)));
    if (const TensorRule* head = arch_.by_role("output")) c_["tie_word_embeddings"] = !has(*head);
  }

  void windows() {
    if (!arch_.window) return;
    const WindowRule& rule = *arch_.window;
    const MetaValue *m = a_.meta(own(kWindowKey)), *pattern = a_.meta(own(kPatternKey));
    const auto n = m ? meta_number(*m) : std::nullopt;
    if (!n || !n->is_number_integer() || *n <= 0) {
      if (rule.enabled_by.empty()) c_[rule.key] = nullptr;
      else c_[rule.enabled_by] = false;
      return;
    }
    c_[rule.key] = *n;
    if (!rule.enabled_by.empty()) c_[rule.enabled_by] = true;
    const auto* list = pattern ? std::get_if<MetaArray>(&pattern->v) : nullptr;
    if (!list && rule.period == 0) return;
    OrderedJson types = OrderedJson::array();
    const int64_t layers = param("layers").value_or(0);
    int64_t full = 0, windowed = 0;  // layers at the beginning that see everything, and those up to the last that does not
    for (int64_t i = 0; i < layers; ++i) {
      const auto* told = list && static_cast<size_t>(i) < list->size() ? std::get_if<bool>(&(*list)[static_cast<size_t>(i)].v) : nullptr;
      const bool sliding = told ? *told : but_every(rule.period, i);
      if (!sliding && full == i) ++full;
      if (sliding) windowed = i + 1;
      types.push_back(sliding ? "sliding_attention" : "full_attention");
    }
    if (!rule.below.empty()) c_[rule.below] = full;
    if (!rule.before.empty()) c_[rule.before] = list ? windowed : layers;
    c_["layer_types"] = std::move(types);
  }

  Status attention_scale(const MetaValue* scale) {
    Params params;
    for (const char* name : {"layers", "head_dim", "hidden", "heads"})
      if (const auto v = param(name)) params[name] = *v;
    if (!params.count("layers") || !params.count("head_dim")) return {};
    double divisor = usual_attention_divisor(arch_.layer, params);
    if (const auto* s = scale ? std::get_if<float>(&scale->v) : nullptr) {
      if (!(*s > 0)) return bad_input("{}: '{}' is {}, expected a number above zero", what_, own("attention.scale"), *s);
      divisor = 1 / (static_cast<double>(*s) * *s);
      if (static_cast<float>(1 / std::sqrt(std::round(divisor))) == *s) divisor = std::round(divisor);
    }
    c_[arch_.layer.attention_key] = divisor == std::floor(divisor) && divisor < 1e9 ? OrderedJson(static_cast<int64_t>(divisor)) : OrderedJson(divisor);
    return {};
  }

  Status rope() {
    if (arch_.layer.rope == "none") return {};
    const auto head_dim = param("head_dim");
    if (!head_dim) return {};
    int64_t turned = *head_dim;
    if (arch_.params.count("rope_dim"))
      if (const MetaValue* m = a_.meta(own("rope.dimension_count")))
        if (const auto n = meta_number(*m); n && n->is_number_integer() && *n > 0 && *n <= *head_dim) turned = n->get<int64_t>();
    if (arch_.params.count("rope_dim")) partial(turned, *head_dim);
    INGOT_TRY(add_rope_scaling(a_, arch_, turned, &c_));
    return local_base();
  }

  // The share of each head that is rotated: a fraction that makes that number again when it is rounded down.
  void partial(int64_t turned, int64_t head_dim) {
    const std::string key = arch_.name == "gptneox" ? "rotary_pct" : "partial_rotary_factor";
    if (turned == head_dim && key == "partial_rotary_factor") return;
    double share = static_cast<double>(turned) / static_cast<double>(head_dim);
    while (std::floor(share * static_cast<double>(head_dim)) < static_cast<double>(turned)) share = std::nextafter(share, 2);
    c_[key] = share;
  }

  // The base of layers with a window where only transformers 5 has a place for it, if it is not what is taken without.
  Status local_base() {
    const MetaValue* swa = a_.meta(own(kLocalBaseKey));
    const auto rule = std::find_if(arch_.metadata.begin(), arch_.metadata.end(), [&](const MetadataRule& r) { return r.key == own(kLocalBaseKey); });
    if (!swa || rule == arch_.metadata.end() || plain_key(rule->from)) return {};
    INGOT_ASSIGN(const Artifact again, written_again());
    if (const MetaValue* m = again.meta(rule->key); m && same_number(*m, *swa)) return {};
    OrderedJson full = c_.contains("rope_scaling") ? c_["rope_scaling"] : OrderedJson{{"rope_type", "default"}};
    if (c_.contains("rope_theta")) full["rope_theta"] = c_["rope_theta"];
    c_.erase("rope_scaling"), c_.erase("rope_theta");
    c_["rope_parameters"] = {{"full_attention", full}, {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", meta_number(*swa).value_or(OrderedJson())}}}};
    return {};
  }

  // What a GGUF file of this configuration would say.
  Result<Artifact> written_again() const {
    const Json config = with_defaults(arch_, Json(c_));
    INGOT_ASSIGN(const Params params, config_params(arch_, config, what_));
    Artifact out;
    out.path = a_.path;
    std::vector<LazyTensor> tensors;
    for (const LazyTensor& t : a_.tensors)
      if (!is_rope_factors(t.name)) tensors.push_back(t);
    out.tensors = std::move(tensors);
    INGOT_TRY(add_gguf_metadata({arch_, config, params, what_, "", nullptr, [](const std::string&) { return Status(); }}, &out));
    return out;
  }

  // Of the architecture's keys those that config.json has no place for. One that is absent there may be what it is anyway.
  void compare(const Artifact& again, std::vector<std::string>* lost) const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : a_.metadata) {
      if (!key.starts_with(arch_.name + ".") || key == own("vocab_size") || key == own("rope.dimension_count") || key == own(kPatternKey)) continue;
      const MetaValue* m = again.meta(key);
      const auto n = meta_number(value);
      const bool nothing = n && *n == 0;
      if (m ? m->v.index() == value.v.index() && meta_number(*m) && !same_number(*m, value) : !nothing && !key.ends_with(".rope.scaling.type") && key != own(kBaseKey)) keys.push_back(key);
    }
    if (!keys.empty())
      lost->push_back(fmt::format("config.json of {} has no place for what {} of the metadata say: {}", arch_.classes[0], keys.size() == 1 ? "one key" : "some keys", some_of(keys)));
  }

  const Artifact& a_;
  const Architecture& arch_;
  MetadataParams param_;
  std::string what_;
  OrderedJson c_ = OrderedJson::object();
};

}  // namespace

std::optional<OrderedJson> meta_number(const MetaValue& m) {
  return std::visit(
      [](const auto& v) -> std::optional<OrderedJson> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, float>) {
          if (!std::isfinite(v)) return std::nullopt;
          const std::string text = fmt::format("{}", v);
          double d = 0;
          std::from_chars(text.data(), text.data() + text.size(), d);
          return OrderedJson(d);
        } else if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
          return OrderedJson(v);
        } else {
          return std::nullopt;
        }
      },
      m.v);
}

Result<HfConfig> hf_config(const Artifact& gguf, const Architecture& arch) { return Builder(gguf, arch).run(); }

Result<const Architecture*> hf_architecture(const Artifact& gguf) {
  const std::string* name = meta_string(gguf, "general.architecture");
  const Architecture* usual = architecture_of(gguf);
  INGOT_ASSIGN(const auto* all, architectures());
  if (!name || !usual) {
    std::vector<std::string> known;
    for (const Architecture& a : *all)
      if (std::find(known.begin(), known.end(), a.name) == known.end()) known.push_back(a.name);
    return bad_input("converting {}: its architecture is '{}', whose names of tensors ingot does not know; it knows {} (ingot list architectures). A new one is one "
                     "JSON file in data/architectures/ (docs/howto/architecture.md)", gguf.path, name ? name->substr(0, 100) : "not named", fmt::join(known, ", "));
  }
  // Several classes share a name: the first that has what the file has.
  const MetaValue* w = gguf.meta(*name + "." + kWindowKey);
  const auto window = w ? meta_number(*w) : std::nullopt;
  for (const Architecture& a : *all) {
    if (a.name != *name || a.params.count("experts") != usual->params.count("experts") || (window && *window > 0 && !a.window)) continue;
    if (std::all_of(gguf.tensors.begin(), gguf.tensors.end(), [&](const LazyTensor& t) { return is_rope_factors(t.name) || map_from_gguf(a, t.name); })) return &a;
  }
  return usual;
}

}  // namespace ingot::transform
