#include "model/model_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace ingot {
namespace {

constexpr int64_t kMaxParam = int64_t{1} << 31;  // of a dimension or a count; keeps products within int64

enum class Op { kTimes, kOver, kFloor };
struct Term {
  Op op = Op::kTimes;
  std::string_view text;
  std::optional<double> number;  // else it is a key
};

std::vector<Term> terms_of(std::string_view path) {
  std::vector<Term> out;
  for (Op op = Op::kTimes;;) {
    const size_t end = path.find_first_of("*/");
    Term t{op, path.substr(0, end), std::nullopt};
    double n = 0;
    if (const auto r = std::from_chars(t.text.data(), t.text.data() + t.text.size(), n); r.ec == std::errc() && r.ptr == t.text.data() + t.text.size()) t.number = n;
    out.push_back(t);
    if (end == std::string_view::npos) return out;
    const bool floor = path.substr(end).starts_with("//");
    op = path[end] == '*' ? Op::kTimes : floor ? Op::kFloor : Op::kOver;
    path.remove_prefix(end + (floor ? 2 : 1));
  }
}

template <class Value>
std::optional<double> evaluate(const std::vector<Term>& terms, Value value) {
  double out = 1;
  for (const Term& t : terms) {
    const std::optional<double> v = t.number ? t.number : value(t.text);
    if (!v) return std::nullopt;
    if (t.op == Op::kTimes) {
      out *= *v;
      continue;
    }
    if (*v == 0 || (t.op == Op::kOver && std::fmod(out, *v) != 0)) return std::nullopt;
    out = t.op == Op::kOver ? out / *v : std::floor(out / *v);
  }
  return out;
}

// The member at "a.b".
const Json* member_at(const Json& config, std::string_view key) {
  const Json* at = &config;
  for (auto dot = key.find('.'); at && dot != std::string_view::npos; dot = key.find('.')) {
    at = json_member(*at, key.substr(0, dot));
    key.remove_prefix(dot + 1);
  }
  return at ? json_member(*at, key) : nullptr;
}

// The reason why a quotient among `from` gave no number: both are there, and one does not divide the other.
Status undivided(const Json& config, const std::vector<std::string>& from, const std::string& what) {
  for (const auto& path : from) {
    const auto terms = terms_of(path);
    if (terms.size() != 2 || terms[1].op != Op::kOver) continue;
    const auto a = config_number(config, terms[0].text), b = config_number(config, terms[1].text);
    if (a && b && *b != 0)
      return bad_input("{}: '{}' is {} and '{}' is {}, which does not divide it{}", what, terms[0].text, *a, terms[1].text, *b,
                       from[0] == path ? std::string() : fmt::format(", and there is no '{}'; one of the three is wrong or missing", from[0]));
  }
  return {};
}

std::string value_text(const Json& v) { return v.is_string() ? fmt::format("'{:.60}'", v.get_ref<const std::string&>()) : json_brief(v); }

std::string values_text(const std::vector<Json>& values) {
  std::string out;
  for (const auto& v : values) out += (out.empty() ? "" : " or ") + value_text(v);
  return out;
}

Status check_required(const Architecture& a, const Json& config, const std::string& what) {
  for (const auto& [key, r] : a.require) {
    const Json* m = member_at(config, key);
    if (!m && r.missing.is_null()) continue;
    const Json& found = m ? *m : r.missing;
    if (std::find(r.values.begin(), r.values.end(), found) != r.values.end()) continue;
    const std::string expected = values_text(r.values);
    if (found.type() != r.values[0].type()) return bad_input("{}: '{}' is {}, expected {}", what, key, json_brief(found), r.values[0].is_string() ? "a text like " + r.values[0].dump() : expected);
    return bad_input("{}: '{}' is {}{}; of {} ingot supports only {}", what, key, value_text(found), m ? "" : " where it is not said", a.classes[0], expected);
  }
  return {};
}

}  // namespace

Json language_config(const Json& config) {
  const Json* text = json_member(config, "text_config");
  if (!text || !text->is_object()) return config;
  Json out = config;
  out.erase("text_config");
  for (const auto& [key, value] : text->items())
    if (key != "architectures" && !(key.ends_with("_token_id") && json_member(config, key))) out[key] = value;
  if (json_bool(config, "tie_word_embeddings").value_or(false)) out["tie_word_embeddings"] = true;
  return out;
}

std::vector<std::pair<std::string, Json>> missing_defaults(const Architecture& a, const Json& config) {
  // A key with a default of its own is another quantity, which some lists fall back to.
  const auto said = [&](const std::string& key, const std::vector<std::string>& from) {
    return std::find(from.begin(), from.end(), key) != from.end() &&
           std::any_of(from.begin(), from.end(), [&](const std::string& other) { return !a.defaults.contains(other) && json_member(config, other); });
  };
  std::vector<std::pair<std::string, Json>> out;
  for (const auto& [key, value] : a.defaults.items())
    if (config.is_object() && !config.contains(key) &&
        std::none_of(a.params.begin(), a.params.end(), [&, k = key](const auto& param) { return said(k, param.second); }) &&
        std::none_of(a.metadata.begin(), a.metadata.end(), [&, k = key](const MetadataRule& rule) { return said(k, rule.from); }))
      out.emplace_back(key, value);
  return out;
}

Json with_defaults(const Architecture& a, Json config) {
  for (auto& [key, value] : missing_defaults(a, config)) config[key] = std::move(value);
  return config;
}

std::optional<double> config_number(const Json& config, std::string_view path) {
  return evaluate(terms_of(path), [&](std::string_view key) {
    const Json* m = member_at(config, key);
    return m ? finite_number(*m) : std::nullopt;
  });
}

Result<std::optional<double>> read_config_number(const Json& config, std::string_view path, const std::string& what) {
  for (const Term& t : terms_of(path)) {
    const Json* m = t.number ? nullptr : member_at(config, t.text);
    if (m && !finite_number(*m)) return bad_input("{}: '{}' is {}, expected a {}number", what, t.text, json_brief(*m), json_odd(*m) ? "finite " : "");
  }
  return config_number(config, path);
}

std::vector<std::string> path_keys(std::string_view path) {
  std::vector<std::string> out;
  for (const Term& t : terms_of(path))
    if (!t.number) out.emplace_back(t.text);
  return out;
}

std::optional<double> path_value(std::string_view path, const std::vector<std::optional<double>>& values) {
  size_t next = 0;
  return evaluate(terms_of(path), [&](std::string_view) { return next < values.size() ? values[next++] : std::nullopt; });
}

Result<Params> config_params(const Architecture& a, const Json& config, const std::string& what) {
  INGOT_TRY(check_required(a, config, what));
  Params out;
  for (const auto& [name, from] : a.params) {
    std::optional<double> v;
    for (const auto& path : from)
      if (!v) {
        INGOT_ASSIGN(v, read_config_number(config, path, what));
      }
    if (!v) INGOT_TRY(undivided(config, from, what));
    if (!v) return bad_input("{}: there is no usable number '{}'; the configuration is not whole", what, from[0]);
    if (!(*v >= 1) || *v > static_cast<double>(kMaxParam) || *v != std::floor(*v))
      return bad_input("{}: '{}' is {}, expected a whole number from 1 to {}", what, from[0], *v, kMaxParam);
    out[name] = static_cast<int64_t>(*v);
  }
  for (const auto& [name, by] : a.multiples)
    if (out.at(name) % out.at(by) != 0)
      return bad_input("{}: '{}' is {} and '{}' is {}, which does not divide it; one of them is not this model's", what, a.params.at(name)[0],
                       out.at(name), a.params.at(by)[0], out.at(by));
  return out;
}

std::optional<int64_t> extent(std::string_view text, const std::function<std::optional<int64_t>(const std::string&)>& param) {
  int64_t sum = 0;
  while (!text.empty()) {
    std::string_view product = text.substr(0, text.find('+'));
    text.remove_prefix(std::min(text.size(), product.size() + 1));
    int64_t n = 1;
    while (!product.empty()) {
      const std::string_view factor = product.substr(0, product.find('*'));
      product.remove_prefix(std::min(product.size(), factor.size() + 1));
      int64_t number = 0;
      const auto r = std::from_chars(factor.data(), factor.data() + factor.size(), number);
      const auto v = r.ec == std::errc() ? std::optional<int64_t>(number) : param(std::string(factor));
      if (!v || __builtin_mul_overflow(n, *v, &n)) return std::nullopt;
    }
    if (__builtin_add_overflow(sum, n, &sum)) return std::nullopt;
  }
  return sum;
}

Result<Shape> shape_of(const std::vector<std::string>& extents, const Params& params, const std::string& tensor) {
  Shape s;
  for (const auto& e : extents) {
    const auto n = extent(e, [&](const std::string& name) {
      const auto it = params.find(name);
      return it == params.end() ? std::nullopt : std::optional<int64_t>(it->second);
    });
    if (!n) return bad_input("the shape of {} cannot be computed from the configuration", tensor);
    s.push_back(*n);
  }
  return s;
}

bool but_every(int64_t period, int64_t layer) { return period == 0 || (layer + 1) % period != 0; }

Result<Windows> attention_windows(const Architecture& a, const Json& config, int64_t layers, const std::string& what) {
  Windows out;
  if (!a.window) return out;
  const WindowRule& rule = *a.window;
  out.rule = &rule;
  INGOT_ASSIGN(auto window, read_config_number(config, rule.key, what));
  if (!window && !config.contains(rule.key) && rule.missing > 0) window = static_cast<double>(rule.missing);
  if (!window || (!rule.enabled_by.empty() && !json_bool(config, rule.enabled_by).value_or(false))) return out;
  if (!(*window >= 1) || *window > static_cast<double>(kMaxParam) || *window != std::floor(*window))
    return bad_input("{}: '{}' is {}, expected a whole number from 1, or null for no window", what, rule.key, *window);
  for (int64_t i = 0; i < layers; ++i) out.layers.push_back(but_every(rule.period, i));
  if (!rule.below.empty()) {
    INGOT_ASSIGN(const auto below, read_config_number(config, rule.below, what));
    for (int64_t i = 0; i < layers && static_cast<double>(i) < below.value_or(static_cast<double>(rule.below_missing)); ++i)
      out.layers[static_cast<size_t>(i)] = false, out.usual = false;
  }
  if (!rule.before.empty()) {
    INGOT_ASSIGN(const auto before, read_config_number(config, rule.before, what));
    for (int64_t i = 0; i < layers; ++i)
      if (static_cast<double>(i) >= before.value_or(static_cast<double>(rule.before_missing))) out.layers[static_cast<size_t>(i)] = false, out.usual = false;
  }
  if (rule.unrotated) {
    for (int64_t i = 0; i < layers; ++i) out.layers[static_cast<size_t>(i)] = !has_rope(a.layer, i, false);
    out.usual = false;
  }
  // transformers 5 writes of each layer what it is, older files have how often one is other than the rest.
  if (const Json* types = json_member(config, "layer_types")) {
    std::vector<bool> said;
    for (const Json& t : types->is_array() ? *types : Json::array()) said.push_back(t == "sliding_attention");
    const bool known = types->is_array() && std::all_of(types->begin(), types->end(), [](const Json& t) { return t == "sliding_attention" || t == "full_attention"; });
    if (!known || static_cast<int64_t>(said.size()) != layers)
      return bad_input("{}: 'layer_types' is {}, expected \"sliding_attention\" or \"full_attention\" for each of {} layers", what, json_brief(*types), layers);
    out.usual = said == out.layers && out.usual;
    out.layers = said;
  } else if (const auto period = config_number(config, "sliding_window_pattern"); period && rule.period && *period >= 1 && *period != static_cast<double>(rule.period)) {
    for (int64_t i = 0; i < layers; ++i) out.layers[static_cast<size_t>(i)] = but_every(static_cast<int64_t>(*period), i);
    out.usual = false;
  }
  INGOT_ASSIGN(const auto context, read_config_number(config, "max_position_embeddings", what));
  const bool none = std::none_of(out.layers.begin(), out.layers.end(), [](bool b) { return b; });
  if (none || (rule.period == 0 && context && *context <= *window)) {
    out.layers.clear(), out.usual = true;
    return out;
  }
  out.window = static_cast<int64_t>(*window);
  return out;
}

bool has_rope(const LayerKinds& k, int64_t layer, bool window) {
  if (k.rope == "none") return false;
  if (k.rope_layers == "sliding") return window;
  if (k.rope_layers == "all") return true;
  return but_every(std::max<int64_t>(0, std::atoll(k.rope_layers.c_str() + std::string_view("period ").size())), layer);
}

double usual_attention_divisor(const LayerKinds& k, const Params& params) {
  const auto other = k.attention_scale.find(params.at("layers"));
  const auto divisor = other == k.attention_scale.end() ? std::nullopt : config_number(Json(params), other->second);
  return divisor.value_or(static_cast<double>(params.at("head_dim")));
}

}  // namespace ingot
